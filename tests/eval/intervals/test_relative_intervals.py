"""How far the test items leave relative performance open."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from presel_lightning.eval.intervals.relative_intervals import beside_full

N = {"a": 60, "b": 40}
RNG = np.random.default_rng(0)
EASY = {name: RNG.uniform(size=n) for name, n in N.items()}
RIGHT = {
    arm: {name: (EASY[name] + 0.3 * RNG.normal(size=n) < level) for name, n in N.items()}
    for arm, level in {"final": 0.55, "random": 0.45, "full": 0.8}.items()
}


def details(*without: str) -> dict[str, dict[str, Any]]:
    """What two benchmarks kept of three arms; no credits in those of `without`."""
    return {
        arm: {
            "benchmarks": {
                name: {
                    "score": 100 * float(right.mean()),
                    "items": None if name in without else right.astype(float).tolist(),
                }
                for name, right in of_arm.items()
            }
        }
        for arm, of_arm in RIGHT.items()
    }


def rows() -> list[dict[str, Any]]:
    return [
        {"arm": arm, "scores": {name: 100 * float(x.mean()) for name, x in of_arm.items()}}
        for arm, of_arm in RIGHT.items()
    ]


def lead_of(a: np.ndarray, b: np.ndarray) -> float:
    """Final minus random in percent of full, for resampled rows of both benchmarks."""
    drawn = {"a": a, "b": b}
    means = {arm: {n: x[n][drawn[n]].mean() for n in N} for arm, x in RIGHT.items()}
    ratios = [(means["final"][n] - means["random"][n]) / means["full"][n] for n in N]
    return 100 * float(np.mean(ratios))


def test_relative_difference_interval_matches_scipy() -> None:
    arms, lead = beside_full(rows(), details(), None)
    assert lead is not None and lead["without"] == []
    everything = [np.arange(n) for n in N.values()]
    assert lead["difference"] == pytest.approx(lead_of(*everything))
    assert lead["difference"] == pytest.approx(lead["ours"] - lead["theirs"])
    theirs = stats.bootstrap(
        everything,
        lead_of,
        vectorized=False,
        n_resamples=5000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert (lead["low"], lead["high"]) == pytest.approx((theirs.low, theirs.high), abs=1.0)
    final = arms[0]
    low, high = final["relative_interval"]
    assert low < np.mean(list(final["of_full"].values())) < high
    # the paired interval is narrower than those of both arms
    assert lead["high"] - lead["low"] < 2 * (high - low)
    assert arms[2]["relative_interval"] is None  # full data is the yardstick


def test_relative_interval_resamples_each_benchmark_separately() -> None:
    """The same items under two names give a narrower interval: each is resampled by itself."""
    found = details()
    for arm in found.values():
        arm["benchmarks"]["b"] = arm["benchmarks"]["a"]
    mean = [
        {"arm": arm, "scores": dict.fromkeys("ab", 100 * float(x["a"].mean()))}
        for arm, x in RIGHT.items()
    ]
    arms, _ = beside_full(mean, found, None)
    low, high = arms[0]["relative_interval"]
    one_low, one_high = arms[0]["of_full_intervals"]["a"]
    assert (high - low) / (one_high - one_low) == pytest.approx(0.5**0.5, abs=0.06)


def test_relative_interval_without_credits_is_none() -> None:
    arms, lead = beside_full(rows(), details("b"), None)
    assert lead is not None and lead["low"] is None and lead["without"] == ["b"]
    assert lead["difference"] == pytest.approx(lead["ours"] - lead["theirs"])
    assert set(arms[0]["of_full_intervals"]) == {"a"} and arms[0]["relative_interval"] is None


def test_relative_interval_keeps_given_full_scores_fixed() -> None:
    arms, lead = beside_full(rows(), details(), {"a": 50.0})
    assert lead is not None and lead["benchmarks"] == ["a"]
    assert arms[0]["of_full"]["a"] == pytest.approx(200 * RIGHT["final"]["a"].mean())
    assert arms[0]["of_full"]["b"] is None and set(arms[2]["of_full_intervals"]) == {"a"}


def test_relative_interval_skips_resamples_with_zero_full_score() -> None:
    tiny = {"score": 50.0, "items": [1.0, 0.0]}
    found = {arm: {"benchmarks": {"b": tiny}} for arm in ("final", "random", "full")}
    arms, lead = beside_full([{"arm": a, "scores": {"b": 50.0}} for a in found], found, None)
    assert arms[0]["relative_interval"] == [100.0, 100.0]
    assert lead is not None and (lead["low"], lead["high"]) == (0.0, 0.0)


def test_relative_difference_without_full_or_random_is_none() -> None:
    arms, lead = beside_full(rows()[:2], details(), None)
    assert lead is None and arms[0]["of_full"] == {"a": None, "b": None}
    assert beside_full(rows()[::2], details(), None)[1] is None
