from __future__ import annotations

import json
import math

import pytest

from presel_lightning.eval.intervals.relative import benchmark_table, relative_performance


def test_relative_performance_skips_missing_scores() -> None:
    full = {"a": 50.0, "b": 0.0, "c": None, "d": math.nan, "f": 10.0}
    ours = {"a": 40.0, "b": 9.0, "c": 9.0, "d": 9.0, "e": 9.0, "f": None}
    assert relative_performance(ours, full) == pytest.approx(80.0)
    assert relative_performance({"b": 9.0, "e": 1.0}, full) is None
    assert relative_performance({}, {}) is None


def test_benchmark_table_uses_full_arm_or_given_scores() -> None:
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
