from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import pytest

from presel_lightning.annotators import OpenAICompatible, Request
from presel_lightning.annotators.wire import SCHEMA
from presel_lightning.errors import UserError
from tests.annotators.asked import COST, PRICES, annotator, ledger, problems, spent
from tests.annotators.conftest import Make
from tests.annotators.names import PoolNames
from tests.annotators.server import KEY, PATIENCE, serving
from tests.data.test_images import header_only


def test_second_run_requests_and_charges_only_missing_answers(make: Make, tmp_path: Path) -> None:
    requests, names = make(20)
    out = tmp_path / "out"
    four = Barrier(4)

    def behave(name: str, number: int) -> None:
        four.wait(PATIENCE)

    with serving(behave) as server:
        first = annotator(server, concurrency=4).annotate(requests[:12], out, names)
        again = annotator(server, concurrency=4).annotate(requests, out, names)
    assert not first.problems and not again.missing and not again.notes
    assert again.conversations[requests[3].uid] == [
        {"from": "human", "value": "<image>\nWhat is image-3?"},
        {"from": "gpt", "value": "It is image-3."},
    ]
    assert set(server.asked.values()) == {1} and len(server.asked) == 20
    assert server.most == 4
    assert server.keys == {f"Bearer {KEY}"}
    assert len(ledger(out)) == 20 and spent(out) == pytest.approx(20 * COST)
    assert again.cost == pytest.approx(20 * COST)


def test_request_body_holds_schema_limits_and_options(make: Make, tmp_path: Path) -> None:
    requests, names = make(1)
    with serving() as server:
        options: dict[str, Any] = {"temperature": 0.5, "extra_body": {"seed": 3}}
        annotator(server, **options).annotate(requests, tmp_path / "a", names)
        plain = annotator(server, response_format="none", max_tokens_key="max_completion_tokens")
        plain.annotate(requests, tmp_path / "b", names)
    rich, bare = server.bodies
    assert rich["response_format"]["json_schema"]["schema"] == SCHEMA
    assert (rich["model"], rich["temperature"], rich["seed"]) == ("tiny", 0.5, 3)
    assert rich["max_tokens"] == bare["max_completion_tokens"] == 1024
    assert "response_format" not in bare and "temperature" not in bare
    assert rich["messages"][1]["content"][1]["text"] == "prompt of vqa"


def test_image_that_grew_over_the_limit_is_listed_and_others_are_asked(
    make: Make, tmp_path: Path
) -> None:
    requests, names = make(3)
    header_only(requests[1].path, 20_000, 20_000)
    with serving() as server:
        answers = annotator(server).annotate(requests, tmp_path / "out", names)
    assert problems(answers) == {requests[1].path.name: "oversized"}
    assert len(answers.conversations) == 2 and len(server.asked) == 2


def test_estimate_uses_mean_cost_once_replies_exist(make: Make, tmp_path: Path) -> None:
    requests, names = make(5)
    with serving() as server:
        paid = annotator(server)
        most = paid.estimate(requests, tmp_path / "out")
        paid.annotate(requests[:2], tmp_path / "out", names)
        mean = paid.estimate(requests[2:], tmp_path / "out")
        free = OpenAICompatible(server.url, "tiny")
    assert mean == pytest.approx(3 * COST) and most is not None and most > 5 * COST
    assert f"{most:.2f}".startswith("at most ") and not f"{mean:.2f}".startswith("at most ")
    assert free.estimate(requests, tmp_path / "out") is None


@pytest.mark.parametrize("status", [401, 403, 404])
def test_rejected_key_or_model_raises_without_leaking_the_key(
    status: int, make: Make, tmp_path: Path
) -> None:
    requests, names = make(8)
    reply = {"error": {"message": f"no access with {KEY}"}}
    told = f"HTTP {status}.*api_key_env"
    with (
        serving(lambda name, n: (status, reply, {})) as server,
        pytest.raises(UserError, match=told) as caught,
    ):
        annotator(server, concurrency=2).annotate(requests, tmp_path / "out", names)
    sent = sum(server.asked.values())
    assert 1 <= sent <= 2 and KEY not in str(caught.value)
    rows = ledger(tmp_path / "out")
    assert [row["status"] for row in rows] == [f"http_{status}"] * sent
    listed = list(csv.DictReader((tmp_path / "out" / "problems.csv").open()))
    assert {row["uid"] for row in listed} == {row["uid"] for row in rows}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"base_url": "localhost:8000"}, "http://"),
        ({"base_url": "http://me:secret@host/v1"}, "password"),
        ({"max_cost": 1.0, "price_per_million_input_tokens": None}, "both prices"),
        ({"max_cost": 1.0, **dict.fromkeys(PRICES)}, "max_cost needs"),
        ({"concurrency": 0}, "concurrency 0"),
        ({"max_retries": -1}, "max_retries -1"),
        ({"max_unreadable": 0}, "max_unreadable 0"),
    ],
)
def test_invalid_settings_raise_user_error_without_the_secret(
    options: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError, match=told) as caught:
        OpenAICompatible(**{"base_url": "http://host/v1", "model": "tiny", **PRICES, **options})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("key", [None, "  ", "sk-line\nbreak", "sk-é"])
def test_missing_or_invalid_api_key_raises_user_error(
    key: str | None, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests, names = make(1)
    monkeypatch.delenv("OPENAI_API_KEY")
    if key is not None:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    with serving() as server:
        with pytest.raises(UserError, match="OPENAI_API_KEY") as caught:
            annotator(server).annotate(requests, tmp_path / "out", names)
        assert "sk-" not in str(caught.value)
        no_key = annotator(server, api_key_env=None).annotate(requests, tmp_path / "out", names)
    assert not no_key.missing and server.keys == {None}


def test_answer_missing_from_the_ledger_is_added_on_restart(make: Make, tmp_path: Path) -> None:
    """A start that is killed between the two writes."""
    requests, names = make(4)
    out = tmp_path / "out"
    with serving() as server:
        annotator(server).annotate(requests[:3], out, names)
        text = (out / "ledger.csv").read_text()
        (out / "ledger.csv").write_text(text[: text.rindex(",")])  # and in the middle of a line
        annotator(server).annotate(requests, out, names)
    rows = ledger(out)
    assert sorted(row["uid"] for row in rows) == sorted(request.uid for request in requests)
    assert spent(out) == pytest.approx(4 * COST)


def test_killed_run_keeps_every_written_answer(make: Make, tmp_path: Path) -> None:
    """SIGKILL with 40 of 100 answers in; at most those under way are asked for twice."""
    requests, names = make(100)
    out, log = tmp_path / "out", tmp_path / "log"
    killed = Event()

    def behave(name: str, number: int) -> None:
        if server.answered >= 60:
            killed.wait(PATIENCE)

    with serving(behave, seconds=0.05) as server:
        command = [sys.executable, __file__, server.url, str(tmp_path), "100"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        with log.open("wb") as handle:
            process = subprocess.Popen(command, stdout=handle, stderr=handle, env=environment)
        while server.answered < 40 and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, log.read_text()
        killed.set()
        server.settle()
        kept = (out / "answers.jsonl").read_bytes().count(b"\n")
        before = sum(server.asked.values())
        assert 40 - 4 <= kept <= before < 100
        answers = annotator(server, concurrency=4).annotate(requests, out, names)
        after = sum(server.asked.values()) - before
    assert not answers.missing and after == 100 - kept and before - kept <= 4
    rows = ledger(out)
    assert sorted(row["uid"] for row in rows) == sorted(request.uid for request in requests)
    lines = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    assert spent(out) == pytest.approx(sum(line["cost"] for line in lines)) == answers.cost
    assert answers.cost == pytest.approx(100 * COST)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 4 and not any(KEY.encode() in path.read_bytes() for path in files)


def annotate_in_this_process(url: str, folder: Path, count: int) -> None:
    """What the test above kills."""
    import numpy as np

    uids = [f"{number:032x}" for number in range(count)]
    images = [f"{number}.png" for number in range(count)]
    requests = [
        Request(uid, "", image, folder / "images" / image, "vqa", "prompt", "reference split")
        for uid, image in zip(uids, images, strict=True)
    ]
    names = PoolNames(*(np.array(column, dtype=object) for column in (uids, uids, images, images)))
    writer = OpenAICompatible(url, "tiny", concurrency=4, **PRICES)  # type: ignore[arg-type]
    writer.annotate(requests, folder / "out", names)


if __name__ == "__main__":
    annotate_in_this_process(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
