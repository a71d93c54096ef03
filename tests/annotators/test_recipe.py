"""From folders of images to a report, with a server that writes the instructions."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from pathlib import Path
from threading import Event

import pytest
from PIL import Image

from presel_lightning.cli.main import main
from tests.annotators.server import KEY, PATIENCE, ChatServer, Reply, colour, completion, serving
from tests.conftest import start

N = 140


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Two folders of 70 images, no instructions anywhere."""
    for number in range(N):
        place = tmp_path / "photos" / ("odd" if number % 2 else "even") / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, 24), colour(number)).save(place)
    return tmp_path / "photos"


def arguments(folders: Path, out: Path, server: ChatServer) -> list[str]:
    options = {
        "--config": "photos.yaml",
        "--selector": "PreSel",
        "--stages.features.model": "{checkpoint: quickstart-encoder, dtype: float32}",
        "--data.annotations": str(folders),
        "--data.reference": "10",
        "--data.budget": "110",
        "--data.num_workers": "0",
        "--trainer.accelerator": "cpu",
        "--trainer.max_epochs": "1",
        "--annotator": "OpenAICompatible",
        "--annotator.init_args.base_url": server.url,
        "--annotator.init_args.model": "tiny",
        "--annotator.init_args.concurrency": "4",
        "--annotator.init_args.price_per_million_input_tokens": "2.0",
        "--annotator.init_args.price_per_million_output_tokens": "10.0",
        "--out": str(out),
    }
    return ["fit", *(word for pair in options.items() for word in pair)]


def answered(out: Path) -> list[str]:
    path = out / "annotations" / "answers.jsonl"
    if not path.exists():
        return []
    return [json.loads(line)["uid"] for line in path.read_text().split("\n")[:-1]]


@pytest.mark.slow
def test_fit_killed_during_annotation_resumes_and_finishes(folders: Path, tmp_path: Path) -> None:
    out, log, killed = tmp_path / "run", tmp_path / "log", Event()

    def behave(name: str, number: int) -> None:
        if server.answered >= 80:
            killed.wait(PATIENCE)

    with serving(behave, seconds=0.1) as server:
        command = arguments(folders, out, server)
        process = start(command, log)
        while len(answered(out)) < 10 + 40 and process.poll() is None:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        killed.set()
        server.settle()
        kept, asked = len(answered(out)), sum(server.asked.values())
        assert 50 <= kept <= asked <= kept + 4, log.read_text()
        assert main(command) == 0
    assert sum(server.asked.values()) - asked == 110 - kept
    selected = json.loads((out / "selection" / "selected.json").read_text())
    uids = answered(out)
    # exactly the reference and the selection were written, each once
    assert len(uids) == len(set(uids)) == 110
    assert set(uids) == {record["uid"] for record in selected}
    with (out / "annotations" / "ledger.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 110
    assert sum(float(row["cost"]) for row in rows) == pytest.approx(110 * 0.0025)
    assert (out / "models" / "final").is_dir()
    assert (out / "report" / "index.html").is_file()
    files = [path for path in out.rglob("*") if path.is_file()]
    assert not any(KEY.encode() in path.read_bytes() for path in [*files, log])


def test_refused_images_are_charged_once_and_filled_from_file(
    folders: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    out, refused = tmp_path / "run", set[str]()

    def behave(name: str, number: int) -> Reply | None:
        with server.lock:
            if len(refused) < 2:
                refused.add(name)
        return completion("no", finish="content_filter") if name in refused else None

    with serving(behave) as server:
        command = ["select", *arguments(folders, out, server)[1:]]
        command += ["--selector", "Random", "--data.budget", "6"]
        for _ in range(2):
            assert main(command) == 3
            told = capfd.readouterr().err
            assert "2 of 6 images" in told and "2 of them were refused" in told
            assert "FromFile" in told and "retry_refused" in told
            assert sum(server.asked.values()) == 6
    requests = [
        json.loads(line) for line in (out / "selection" / "requests.jsonl").read_text().splitlines()
    ]
    assert {request["why"] for request in requests} == {"selection: random sample"}
    (tmp_path / "a.csv").write_text(
        "uid,question,answer\n" + "".join(f"{r['uid']},What?,That.\n" for r in requests)
    )
    by_hand = ["--annotator", "FromFile", "--annotator.init_args.path", str(tmp_path / "a.csv")]
    first, last = command.index("--annotator"), command.index("--out")
    assert main([*command[:first], *by_hand, *command[last:]]) == 0


def test_select_with_unreadable_replies_ends_with_one_of_them_and_the_cure(
    folders: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    out = tmp_path / "run"
    with serving(lambda name, n: completion("One object, so one turn.")) as server:
        command = ["select", *arguments(folders, out, server)[1:]]
        command += ["--selector", "SizeBalanced", "--data.budget", "4", "--data.reference", "2"]
        command += ["--annotator.init_args.concurrency", "1"]
        command += [
            "--annotator.init_args.backoff",
            "0.01",
            "--annotator.init_args.max_retries",
            "2",
        ]
        assert main(command) == 3
        last = capfd.readouterr().err.splitlines()[-1]
        assert sum(server.asked.values()) == 5
        assert "5 replies in a row could not be read" in last and "One object" in last
        assert "unreadable.jsonl" in last and "annotator.init_args.max_tokens" in last
        server.behaviour = lambda name, n: None
        assert main(command) == 0
        assert sum(server.asked.values()) == 5 + 4
    with (out / "annotations" / "ledger.csv").open() as handle:
        statuses = [row["status"] for row in csv.DictReader(handle)]
    assert statuses == ["malformed"] * 5 + ["answered"] * 4
