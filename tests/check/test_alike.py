"""`check` and the pool stage leave out the same records, and read the same pictures otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from presel_lightning.errors import UserError
from tests.check.running import figure, recipe_of, run_check

TURNS = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "That."}]
GOOD = 60
BAD: dict[str, dict[str, Any]] = {
    "unknown_task": {"task": None},
    "bad_number": {"score": float("nan")},
    "not_unicode": {"note": "\ud800"},
    "empty_answer": {"conversations": [TURNS[0], {"from": "gpt", "value": " "}]},
    "missing": {"image": "gone.png"},
}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sound records, one repeated, one of each of several problems; every tenth picture is clear."""
    folder = tmp_path_factory.mktemp("mixed")
    rng = np.random.default_rng(0)
    records: list[dict[str, Any]] = []
    for number in range(GOOD + len(BAD)):
        pixels = rng.integers(0, 256, (8, 8, 4 if number % 10 == 0 else 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        record = {"id": str(number), "image": f"{number}.png", "task": "t", "conversations": TURNS}
        records.append(record)
    for record, bad in zip(records[GOOD:], BAD.values(), strict=True):
        record.update(bad)
    records.append(dict(reversed(records[0].items())))
    (folder / "mixed.json").write_text(json.dumps(records))
    return folder


def options(mixed: Path, limit: float) -> list[str]:
    return [
        "--data.annotations",
        str(mixed / "mixed.json"),
        "--data.max_problem_fraction",
        str(limit),
    ]


def test_check_leaves_out_what_the_pool_leaves_out(
    mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_of(mixed, tmp_path / "run", *options(mixed, 0.1))
    report, _ = run_check(recipe)
    recipe.pool()
    stage = recipe.runner.ledger.stage("pool")
    assert stage["by_problem"] == dict.fromkeys((*BAD, "repeated_record"), 1)
    left_out = figure(report, "images", "records left out in all")
    assert left_out.startswith(f"{stage['problems']} ")
    for problem in {*BAD, "repeated_record"} - {"missing"}:
        assert figure(report, "records", f"left out: {problem}").startswith("1 ")
    line = "6 images (6 transparency) are read as viewers show them: data.pixels as_shown"
    assert line in " ".join(capsys.readouterr().out.split()) and line in report.notes
    assert any("1 record has no task" in note for note in report.notes)


def test_check_and_pool_refuse_too_many_problems_alike(mixed: Path, tmp_path: Path) -> None:
    recipe = recipe_of(mixed, tmp_path / "run", *options(mixed, 0.05))
    for refuse in (run_check, lambda each: each.pool()):
        with pytest.raises(UserError, match=r"6 of 66 records .* data\.max_problem_fraction 0.05"):
            refuse(recipe)
