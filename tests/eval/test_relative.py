from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from presel_lightning.errors import UserError
from presel_lightning.eval.published import full_scores
from presel_lightning.eval.relative import benchmark_table, relative_performance

BENCHMARKS = ["VQAv2", "SQA-I", "TextVQA", "MME", "MMB-en", "MMB-cn", "SEED", "MM-Vet", "POPE"]


def scores(text: str) -> dict[str, float]:
    return dict(zip(BENCHMARKS, map(float, text.split()), strict=True))


@pytest.mark.parametrize(
    ("pool", "row", "printed"),
    [
        ("llava665k", "75.0 70.1 55.2 1457.7 64.8 56.5 63.8 29.6 85.4", 97.9),  # PreSel
        ("llava665k", "75.3 67.8 54.3 1397.5 61.0 53.5 62.4 30.2 84.9", 95.7),  # random
        ("vision_flan", "64.1 66.2 39.7 1218.8 50.4 45.4 53.5 29.1 84.1", 100.1),  # PreSel
        ("vision_flan", "66.5 62.1 38.7 1238.6 43.6 43.1 48.3 28.1 83.0", 96.1),  # random
        ("llava665k_13b", "76 70.8 57.0 1404.3 66.4 60.9 65.0 34.4 87.2", 98.3),  # PreSel
        ("llava665k_13b", "76.2 69.9 56.8 1452.3 62.8 56.0 65.0 33.0 86.6", 96.6),  # random
        ("llava665k_llama3", "77.0 79.0 59.2 1501.4 73.3 70.6 68.5 37.7 84.6", 97.2),  # PreSel
        ("llava665k_llama3", "77.5 78.3 59.8 1455.0 72.5 69.1 68.3 35.7 84.9", 96.0),  # random
    ],
)
def test_published_rows_are_recomputed(pool: str, row: str, printed: float) -> None:
    found = relative_performance(scores(row), full_scores(f"published:{pool}"))
    assert found == pytest.approx(printed, abs=0.06)


def test_what_cannot_be_compared_is_skipped() -> None:
    full = {"a": 50.0, "b": 0.0, "c": None, "d": math.nan, "f": 10.0}
    ours = {"a": 40.0, "b": 9.0, "c": 9.0, "d": 9.0, "e": 9.0, "f": None}
    assert relative_performance(ours, full) == pytest.approx(80.0)
    assert relative_performance({"b": 9.0, "e": 1.0}, full) is None
    assert relative_performance({}, {}) is None


def test_table_takes_the_full_arm_or_scores_from_elsewhere() -> None:
    arms = {"random": {"x": 30.0}, "final": {"x": math.nan}, "full": {"x": 60.0}}
    own = benchmark_table(arms)
    assert list(own) == ["final", "full", "random"]
    assert own == {
        "final": {"x": None, "relative": None},
        "full": {"x": 60.0, "relative": 100.0},
        "random": {"x": 30.0, "relative": 50.0},
    }
    elsewhere = benchmark_table({"final": {"x": 30.0}}, {"x": 40.0})
    assert elsewhere == {"final": {"x": 30.0, "relative": 75.0}}
    assert benchmark_table({"final": {"x": 30.0}})["final"]["relative"] is None
    json.dumps(own, allow_nan=False)


def test_full_scores_of_another_run(tmp_path: Path) -> None:
    path = tmp_path / "benchmark.json"
    table = benchmark_table({"final": {"x": 30.0}, "full": {"x": 60.0, "y": None}})
    path.write_text(json.dumps(table))
    assert full_scores(str(path)) == {"x": 60.0}
    path.write_text('{"x": 60, "y": 1.5, "relative": 100}')
    assert full_scores(path) == {"x": 60.0, "y": 1.5}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "neither an arm"),
        ('{"final": {"x": 3.0}}', "neither an arm"),
        ('{"full": {"x": null}}', "neither an arm"),
        (None, "cannot be read"),
    ],
)
def test_a_file_without_scores_is_refused(
    tmp_path: Path, content: str | None, message: str
) -> None:
    path = tmp_path / "scores.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message):
        full_scores(path)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"published:llava665k, published:vision_flan"):
        full_scores("published:coco")
