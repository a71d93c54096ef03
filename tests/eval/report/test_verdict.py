"""The verdict on the figures of a run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from presel_lightning.eval.report.verdict import verdict
from tests.eval.report.runs import ARM_TASKS, mean, report_of, write_run


def test_verdict_of_a_lower_score_states_no_difference(tmp_path: Path) -> None:
    write_run(tmp_path)
    report, _ = report_of(tmp_path)
    gap = mean(ARM_TASKS["random"]) - mean(ARM_TASKS["final"])
    assert report["verdict"][0] == (
        f"PreSel is not distinguishable from random selection on this pool: {-gap:+.1f} points "
        "(50.8 against 53.3)."
    )
    ours, theirs = 50.8333 / 100, 53.3333 / 100
    margin = 196 * ((ours * (1 - ours) + theirs * (1 - theirs)) / 240) ** 0.5
    assert f"about {margin:.1f} points" in report["verdict"][1]
    assert "is not significant" in report["verdict"][1]
    assert "One seed cannot resolve small differences" in report["verdict"][2]
    assert report["headline"] == (
        "72 of 480 images in 6 tasks were selected (15.0 %): "
        "24 at random for the reference split, 48 by PreSel."
    )


def row(arm: str, scores: dict[str, float | None], relative: float | None = None) -> dict[str, Any]:
    return {"arm": arm, "scores": scores, "relative": relative, "instructions": 15}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [row("final", {"b": 60.0}), row("random", {"b": 50.0})],
            "came out 10.0 points above random selection",
        ),
        ([row("final", {"b": 60.0}), row("random", {"b": 60.01})], "came out equal"),
        (
            [row("final", {"b": 60.0})],
            "does not show that Mine is better .*baselines random adds one where its images have an",
        ),
        ([row("final", {"b": None})], "quality is not known"),
        ([row("final", {"b": 5.0}, 105.0)], "15.0 % of the instructions.*no proof"),
        (
            [row("final", {"a": 1.0, "b": 2.0}), row("random", {"a": 3.0, "b": 1.0})],
            "above random selection on 1 and below it on 1 of 2",
        ),
        (
            [row("final", {"b": 9.0}), row("full", {"b": 3.0}), row("untrained", {"b": 3.0})],
            "Full data was ahead of the untrained model on no benchmark, .* does not distinguish",
        ),
        (
            [row("final", {"b": 2.0}), row("untrained", {"b": 3.0})],
            "not better than the untrained one",
        ),
    ],
)
def test_verdict_matches_the_scores(rows: list[dict[str, Any]], said: str) -> None:
    assert re.search(said, " ".join(verdict(done(rows))))


def done(rows: list[dict[str, Any]], **facts: Any) -> dict[str, Any]:
    """The figures of a finished run that a verdict is made from."""
    report = {"state": "done", "selector": "Mine", "arms": rows, "counts": {"pool": 100}}
    return {**report, "test_items": {}, "paired": [], "relative_to_random": None, **facts}


TWO = [row("final", {"a": 6.0, "b": 2.0}, 97.9), row("random", {"a": 5.0, "b": 1.9}, 95.7)]
LEAD = {"benchmarks": ["a", "b"], "ours": 97.9, "theirs": 95.7, "difference": 2.2}


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (
            -1.0,
            5.0,
            "is not distinguishable from random selection .*: \\+2.2 points.* is not significant",
        ),
        (
            0.5,
            4.0,
            "was ahead of random selection .* by 2.2 points of relative performance .97.9 % against",
        ),
    ],
)
def test_verdict_claims_a_win_only_beyond_the_interval(low: float, high: float, said: str) -> None:
    lead = {**LEAD, "low": low, "high": high, "without": []}
    assert re.search(said, " ".join(verdict(done(TWO, relative_to_random=lead))))


def test_verdict_without_credits_counts_benchmarks() -> None:
    lead = {**LEAD, "low": None, "high": None, "without": ["b"]}
    paired = [{"benchmark": "a", "against": "random", "low": 0.5, "high": 1.5, "n": 9}]
    said = " ".join(verdict(done(TWO, relative_to_random=lead, paired=paired)))
    assert "above random selection on 2 and below it on 0 of 2 benchmarks" in said
    assert "interval of the test items: above on 1, below on 0" in said
    assert "(97.9 % against 95.7 %) has no interval" in said and "kept for b." in said
    assert "beat" not in said


def test_verdict_names_why_the_random_arm_was_skipped() -> None:
    left_out = {**row("random", {}), "left_out": "72 of its 80 images have no instruction"}
    said = " ".join(verdict(done([row("final", {"b": 60.0}), left_out])))
    assert "72 of its 80 images have no instruction" in said and "baselines" not in said


@pytest.mark.parametrize("arms", [[row("final", {"b": 60.0})], TWO])
def test_verdict_of_a_random_selection_compares_it_with_no_other(
    arms: list[dict[str, Any]],
) -> None:
    first = verdict(done(arms, selector="Random"))[0]
    assert "itself a random sample" in first and "than random" not in first
