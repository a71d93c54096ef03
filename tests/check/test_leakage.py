"""Images and questions of a pool that lie in a benchmark too."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from presel_lightning.cli.main import main
from presel_lightning.data.leakage import BenchmarkItem, SharedQuestions, alike, similar
from presel_lightning.run.files import read_json
from tests.conftest import fit_arguments

N = 24
LONG = (
    "How many of the red boats that lie in the old harbour of this small town have a white sail "
    "today?"
)
SUFFIX = "Answer the question using a single word or phrase."


def picture(rng: np.random.Generator) -> Image.Image:
    """Coarse random areas: no two of them look alike."""
    coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((96, 96), Image.Resampling.BICUBIC)


def record(number: int, question: str) -> dict[str, Any]:
    turns = [{"from": "human", "value": f"<image>\n{question}\n{SUFFIX}"}]
    turns.append({"from": "gpt", "value": "two"})
    return {"id": f"r{number}", "image": f"{number}.png", "task": "t", "conversations": turns}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool of 24 images; a benchmark with number 3 of them as it is, 5 resized, and another."""
    place = tmp_path_factory.mktemp("leaks")
    rng = np.random.default_rng(0)
    for number in range(N):
        picture(rng).save(place / f"{number}.png")
    records = [record(number, f"What is number {number}?") for number in range(N)]
    records[7] = record(7, LONG.upper())
    (place / "pool.json").write_text(json.dumps(records))
    bench = place / "bench"
    bench.mkdir()
    shutil.copy(place / "3.png", bench / "a.png")
    Image.open(place / "5.png").resize((70, 70)).save(bench / "b.jpg", quality=80)
    picture(rng).save(bench / "c.png")
    items = [record(number, f"What is it in {number}?") for number in range(3)]
    items[2] = record(2, LONG)
    for item, name in zip(items, ("a.png", "b.jpg", "c.png"), strict=True):
        item["image"] = name
    (bench / "mme.json").write_text(json.dumps(items))
    return place


def arguments(folder: Path, out: Path, *more: str) -> list[str]:
    words = fit_arguments(folder, out, "--selector", "Random", "--data.budget", "6", *more)
    words[words.index(str(folder / "train.json"))] = str(folder / "pool.json")
    return words[1:]


def lines(out: Path) -> list[dict[str, str]]:
    with (out / "leakage.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_check_lists_shared_images_and_questions_and_data_exclude_leaves_them_out(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert (
        main(["check", *arguments(folder, out, "--against", str(folder / "bench/mme.json"))]) == 0
    )
    found = {(line["id"], line["kind"], line["item"]): line for line in lines(out)}
    assert set(found) == {
        ("r3", "same_file", "r0"),
        ("r5", "looks_alike", "r1"),
        ("r7", "question", "r2"),
    }
    assert {line["benchmark"] for line in found.values()} == {"mme.json"}
    assert "3 of 24 samples share" in " ".join(capsys.readouterr().out.split())
    assert sorted(path.name for path in out.iterdir()) == ["leakage.csv"]

    chosen = ["--data.exclude", str(out / "leakage.csv"), "--data.max_problem_fraction", "0"]
    assert main(["check", *arguments(folder, out, *chosen)]) == 0
    counts = " ".join(capsys.readouterr().out.split())
    assert "left out by data.exclude 3 (12.5 %)" in counts and "with image and task 21" in counts
    assert main(["select", *arguments(folder, out, *chosen)]) == 0
    with (out / "problems.csv").open(newline="") as handle:
        left_out = {line["id"]: line for line in csv.DictReader(handle)}
    assert set(left_out) == {"r3", "r5", "r7"}
    assert left_out["r3"]["problem"] == "excluded"
    assert left_out["r3"]["detail"] == "same_file mme.json r0"
    selected = {line["id"] for line in read_json(out / "selection" / "selected.json")}
    assert len(selected) == 6 and not selected & set(left_out)
    assert main(["report", "--run", str(out)]) == 0
    report = read_json(out / "report" / "report.json")
    assert report["leakage"]["samples"] == 3 and report["problems"]["kinds"] == {"excluded": 3}
    page = (out / "report" / "index.html").read_text()
    assert "looks_alike in mme.json" in page and "3 samples were left out" in page


def test_check_compares_features_where_they_lie_in_the_run_folder(
    folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    typical = ["--selector", "Prism"]
    assert main(["select", *arguments(folder, out, *typical)]) == 0
    crop = tmp_path / "crops"
    crop.mkdir()
    # half of the picture gone: no hash finds it
    Image.open(folder / "9.png").convert("L").crop((0, 0, 96, 80)).save(crop / "d.png")
    more = [*typical, "--against", str(crop), "--leakage_cosine"]
    assert main(["check", *arguments(folder, out, *more, "1.0")]) == 0
    assert lines(out) == []
    assert main(["check", *arguments(folder, out, *more, "0.0")]) == 0
    assert {line["kind"] for line in lines(out)} <= {"embedding", "looks_alike"}
    assert len(lines(out)) == N
    # a second benchmark of as many images is embedded by itself
    other = tmp_path / "others"
    other.mkdir()
    Image.open(folder / "3.png").convert("L").crop((40, 20, 160, 120)).save(other / "d.png")
    both = [*typical, "--against", str(crop), str(other), "--leakage_cosine", "0.0"]
    assert main(["check", *arguments(folder, out, *both)]) == 0
    found = {
        name: sorted((x["uid"], x["detail"]) for x in lines(out) if x["benchmark"] == name)
        for name in ("crops", "others")
    }
    assert len(found["others"]) == N and found["crops"] != found["others"]


@pytest.mark.parametrize(
    ("text", "error"),
    [(None, "no such file"), ("uid,kind\nabc,x\n", "line 2: 'abc'"), ("nothing\n", "line 1: 'not")],
)
def test_data_exclude_that_holds_no_uids_is_refused(
    text: str | None,
    error: str,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "list.csv"
    if text is not None:
        path.write_text(text)
    assert main(["check", *arguments(folder, tmp_path / "run", "--data.exclude", str(path))]) == 2
    assert error in capsys.readouterr().err


def test_unknown_uid_of_data_exclude_is_reported(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "list.txt"
    path.write_text("0" * 32 + "\n")
    chosen = ["--data.exclude", str(path)]
    assert main(["select", *arguments(folder, tmp_path / "run", *chosen)]) == 0
    assert "1 of 1 uids of data.exclude are no record" in " ".join(capsys.readouterr().out.split())


def test_alike_compares_every_hash_with_every_other() -> None:
    rng = np.random.default_rng(0)
    tested = rng.integers(1, 2**63, 40, dtype=np.uint64)
    flips = [(0, 1, 2, 3), (0, 20, 40, 60), (5, 6), (), (1, 2, 3, 4, 5)]
    pool = [
        t ^ np.uint64(sum(1 << f for f in flip)) for t, flip in zip(tested, flips, strict=False)
    ]
    places, bits = alike(np.array([*pool, 0], np.uint64), np.append(tested, np.uint64(0)))
    assert places.tolist() == [0, 1, 2, 3, -1, -1] and bits[:4].tolist() == [4, 4, 2, 0]


def test_similar_takes_the_nearest_from_the_threshold_on() -> None:
    pool = np.array([[1, 0], [0.6, 0.8], [-1, 0]], np.float32)
    places, cosine = similar(pool, np.array([[0, 1], [1, 0]], np.float32), 0.8)
    assert places.tolist() == [1, 0, -1] and cosine.tolist() == pytest.approx([1, 0.8, 0])


def test_lines_of_most_items_are_no_shared_question() -> None:
    wording = "Please answer with one word and nothing else"
    items = [BenchmarkItem("b", str(n), None, f"Where is thing {n}?\n{wording}") for n in range(9)]
    shared = SharedQuestions(items, 4)
    assert shared.find(wording) is None and shared.short == 0
    assert shared.find("Tell me: WHERE is, thing 3, now?") == (3, "where is thing 3")
