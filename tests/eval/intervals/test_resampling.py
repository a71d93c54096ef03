from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from presel_lightning.eval.intervals.resampling import paired_intervals, score_intervals


def scored(items: list[float], tasks: list[str] | None, score: float) -> dict[str, Any]:
    return {"benchmarks": {"b": {"score": score, "items": items, "item_tasks": tasks, "n": 1}}}


def test_paired_interval_is_narrower_than_independent() -> None:
    rng = np.random.default_rng(0)
    easy = rng.uniform(size=400) < 0.5
    ours = (easy | (rng.uniform(size=400) < 0.1)).astype(float).tolist()
    theirs = easy.astype(float).tolist()
    details = {
        "final": scored(ours, None, 100 * float(np.mean(ours))),
        "random": scored(theirs, None, 100 * float(np.mean(theirs))),
    }
    (row,) = paired_intervals(details)
    assert row["against"] == "random" and row["n"] == 400
    assert row["difference"] == pytest.approx(100 * (np.mean(ours) - np.mean(theirs)))
    assert 0 < row["low"] < row["difference"] < row["high"]
    ends = score_intervals(details)
    assert row["high"] - row["low"] < ends["final"]["b"][1] - ends["final"]["b"][0]
    assert ends["random"]["b"][0] < 100 * np.mean(theirs) < ends["random"]["b"][1]
    assert score_intervals(details) == ends


def test_score_intervals_weigh_tasks_equally() -> None:
    items, tasks = [1.0] * 90 + [0.0, 1.0] * 5, ["large"] * 90 + ["small"] * 10
    found = score_intervals({"final": scored(items, tasks, 75.0)})
    low, high = found["final"]["b"]
    assert 55 < low < 75 < high < 95  # the ten of the small task decide


def test_intervals_skip_items_inconsistent_with_the_score() -> None:
    details = {"final": scored([1.0, 0.0], None, 75.0), "random": scored([1.0, 0.0], None, 50.0)}
    assert score_intervals(details) == {"final": {}, "random": {"b": [0.0, 100.0]}}
    assert paired_intervals(details) == []
    assert score_intervals({"final": {"benchmarks": {"b": {"score": 1.0, "n": 3}}}}) == {
        "final": {}
    }


def test_paired_intervals_use_each_arms_own_weights() -> None:
    """F1 weights depend on the answer. Enumerated by hand: two images, four resamples."""
    # final: 2 of 2 + 1, random: 0 of 1 + 2; one image twice gives 1 - 0, the other 0 - 0
    final = {**scored([1.0, 0.0], None, 200 / 3)["benchmarks"]["b"], "item_weights": [2.0, 1.0]}
    random = {**scored([0.0, 0.0], None, 0.0)["benchmarks"]["b"], "item_weights": [1.0, 2.0]}
    details = {"final": {"benchmarks": {"b": final}}, "random": {"benchmarks": {"b": random}}}
    (row,) = paired_intervals(details)
    assert (row["low"], row["difference"], row["high"]) == (0.0, 66.6667, 100.0)


def test_paired_intervals_skip_different_items() -> None:
    details = {"final": scored([1.0, 0.0], None, 50.0), "full": scored([1.0], None, 100.0)}
    assert paired_intervals(details) == []
