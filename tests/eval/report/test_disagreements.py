"""What the final model and another arm answered differently, on the page and in its figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from presel_lightning.eval.benchmarks.annotation_file import AnnotationFile
from presel_lightning.eval.benchmarks.exact_match import normalise
from presel_lightning.eval.benchmarks.predictions import (
    MOST_CHARACTERS,
    SCHEMA,
    predictions_path,
    predictions_table,
    write_predictions,
)
from presel_lightning.eval.report.disagreements import MOST, disagreements
from tests.eval.report.runs import HOSTILE, report_of, write_run


def answers(right: list[float | None], prediction: str = "red") -> pa.Table:
    rows = [
        {
            "benchmark": "tiny",
            "item": f"item {row}",
            "task": "colour",
            "question": f"Question {row}? {HOSTILE}",
            "answer": "red",
            "prediction": f"{prediction} {row}",
            "credit": credit,
        }
        for row, credit in enumerate(right)
    ]
    return pa.Table.from_pylist(rows, SCHEMA)


@pytest.mark.parametrize(
    ("gained", "lost", "shown"),
    [(3, 2, (3, 2)), (50, 40, (10, 10)), (50, 4, (16, 4)), (0, 50, (0, 20)), (0, 0, (0, 0))],
)
def test_disagreements_count_all_and_show_both_directions(
    gained: int, lost: int, shown: tuple[int, int]
) -> None:
    same = [(1.0, 1.0), (0.0, 0.3), (None, 1.0)] * 5
    pairs = [(1.0, 0.0)] * gained + same + [(0.3, 0.6)] * lost
    own, other = ([pair[side] for pair in pairs] for side in (0, 1))
    found = disagreements(answers(own, "own"), answers(other, "other"))
    assert (found["gained"], found["lost"]) == (gained, lost)
    items = found["items"]
    assert len(items) == min(MOST, gained + lost) == len({item["item"] for item in items})
    assert tuple(sum(item["right"] is side for item in items) for side in (True, False)) == shown
    for item in items:
        row = int(item["item"].split()[1])
        assert item["right"] == (own[row] == 1.0)
        assert (item["prediction"], item["other"]) == (f"own {row}", f"other {row}")
    assert found == disagreements(answers(own, "own"), answers(other, "other"))


def test_predictions_of_every_arm_reproduce_the_scores(finished: Path) -> None:
    for arm in ("final", "random", "full", "untrained"):
        scored = json.loads((finished / "work" / "scores" / f"{arm}.json").read_text())
        known = scored["benchmarks"]["tiny"]
        rows = pq.read_table(predictions_path(finished, arm)).to_pylist()
        assert [row["item"] for row in rows] == known["item_ids"]
        assert [row["credit"] for row in rows] == known["items"]
        assert {row["benchmark"] for row in rows} == {"tiny"}
        for row in rows:
            assert row["credit"] == (normalise(row["prediction"]) == normalise(row["answer"]))
    report = json.loads((finished / "report" / "report.json").read_text())
    own, other = (
        pq.read_table(predictions_path(finished, arm))["credit"].to_pylist()
        for arm in ("final", "full")
    )
    against = {row["against"]: row for row in report["disagreements"]["tiny"]}
    assert set(against) == {"random", "full", "untrained"}
    assert against["full"]["lost"] == sum(b > a for a, b in zip(own, other, strict=True))
    assert against["full"]["gained"] == sum(a > b for a, b in zip(own, other, strict=True))


def keep(out: Path, benchmark: str, key: str) -> None:
    for arm, right in {"final": [1.0, 0.0, 1.0], "random": [1.0, 1.0, 0.0]}.items():
        table = answers([*right], arm)
        table = table.set_column(0, "benchmark", pa.array([benchmark] * len(right)))
        write_predictions(predictions_path(out, arm), key, {benchmark: table})


def test_report_shows_answers_that_differ_with_their_texts_escaped(tmp_path: Path) -> None:
    write_run(tmp_path)
    before: tuple[dict[str, Any], str] = report_of(tmp_path)
    assert before[0]["disagreements"] == {} and "answered right by the first" not in before[1]
    name = before[0]["benchmarks"][0]
    keep(tmp_path, name, "of another model")
    assert report_of(tmp_path) == before
    keep(tmp_path, name, "k")
    report, page = report_of(tmp_path)
    (row,) = report["disagreements"][name]
    assert (row["against"], row["gained"], row["lost"]) == ("random", 1, 1)
    assert "1 answered right by the first alone, 1 by the second alone" in page
    assert "random 2" in page and "final 1" in page and "final 0" not in page
    assert HOSTILE not in page


def test_predictions_table_cuts_texts_of_no_end(pool_folder: Path) -> None:
    benchmark = AnnotationFile(str(pool_folder / "test.json"), limit=2)
    said = ["x" * 10_000, "yes"]
    found = predictions_table(benchmark, said, benchmark.score(said))["prediction"].to_pylist()
    assert found == ["x" * (MOST_CHARACTERS - 1) + "…", "yes"]
