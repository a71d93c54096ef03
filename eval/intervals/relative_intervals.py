"""Relative performance per benchmark, with bootstrap intervals over the test items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from presel_lightning.eval.intervals.bootstrap import Floats, percentile_interval, resampled_scores
from presel_lightning.eval.intervals.relative import Scores, relative_performance
from presel_lightning.eval.intervals.resampling import read_kept

Json = dict[str, Any]
Ratios = Mapping[str, Mapping[str, Floats]]
"""{benchmark: {arm: (R,)}}, in percent."""


def beside_full(
    rows: Sequence[Json], details: Mapping[str, Json], elsewhere: Scores | None, seed: int = 0
) -> tuple[list[Json], Json | None]:
    """Add relative performance to the scores of each arm, with 95 % intervals.

    Args:
        rows: arms with their `scores`.
        details: {arm: scores file of the benchmark callback}.
        elsewhere: external scores of full-data tuning; None uses the arm `full`.
        seed: seed of the bootstrap.

    Returns:
        The rows with `of_full` and `of_full_intervals` by benchmark, and `relative_interval` of
        their mean: None where the credits of some benchmark were not kept. And the final arm's
        relative performance minus that of `random`, over the benchmarks that both and full data
        have; None where there is none.
    """
    scores = {row["arm"]: row["scores"] for row in rows}
    full = scores.get("full", {}) if elsewhere is None else elsewhere
    of_full = {
        arm: {name: relative_performance({name: score}, full) for name, score in own.items()}
        for arm, own in scores.items()
    }
    known = {arm: [n for n, v in own.items() if v is not None] for arm, own in of_full.items()}
    ratios = ratio_draws(details, elsewhere, seed)
    found = []
    for row in rows:
        arm = row["arm"]
        drawn = mean_ratios(ratios, arm, known[arm])
        ends = {
            n: percentile_interval(ratios[n][arm]) for n in known[arm] if arm in ratios.get(n, {})
        }
        mean = None if drawn is None else percentile_interval(drawn)
        of = {"of_full": of_full[arm], "of_full_intervals": ends, "relative_interval": mean}
        found.append({**row, **of})
    shared = [name for name in known.get("final", []) if name in known.get("random", [])]
    return found, lead(scores, full, ratios, shared) if shared else None


def lead(scores: Mapping[str, Scores], full: Scores, ratios: Ratios, names: Sequence[str]) -> Json:
    """Compute the final arm's relative performance minus that of `random` over benchmarks."""
    pair = ("final", "random")
    ours, theirs = (
        relative_performance({name: scores[arm][name] for name in names}, full) or 0.0
        for arm in pair
    )
    mine, yours = (mean_ratios(ratios, arm, names) for arm in pair)
    low, high = (None, None) if mine is None or yours is None else percentile_interval(mine - yours)
    without = [name for name in names if not set(pair) <= ratios.get(name, {}).keys()]
    found = {"benchmarks": list(names), "ours": ours, "theirs": theirs, "without": without}
    return {**found, "difference": ours - theirs, "low": low, "high": high}


def ratio_draws(details: Mapping[str, Json], elsewhere: Scores | None, seed: int) -> Ratios:
    r"""Compute bootstrap ratios of every arm's score to that of full data.

    .. math:: 100 \, s^*_b / f^*_b

    The items of a benchmark are resampled for all arms at once, and independently of other
    benchmarks. External full-data scores are constants: their items are not known.

    Returns:
        Ratios of the arms whose credits were kept, for the same items, without full data where it
        is the denominator. NaN in a resample in which full data scores 0.
    """
    kept = {arm: read_kept(scores) for arm, scores in details.items()}
    base = "full" if elsewhere is None else "final"
    found = {}
    for place, (name, whole) in enumerate(kept.get(base, {}).items()):
        arms = {
            arm: own[name].credits
            for arm, own in kept.items()
            if name in own and own[name].pairs_with(whole)
        }
        drawn = whole.scale * resampled_scores(*arms.values(), seed=[seed, place])  # (R, K)
        by_arm = dict(zip(arms, drawn.T, strict=True))
        best = by_arm.pop("full") if elsewhere is None else np.array(elsewhere.get(name) or 0.0)
        best = np.where(best > 0, best, np.nan)
        found[name] = {arm: 100 * own / best for arm, own in by_arm.items()}
    return found


def mean_ratios(ratios: Ratios, arm: str, names: Sequence[str]) -> Floats | None:
    """Compute relative performance over benchmarks in each resample; None where one is missing.

    As in `relative_performance`, a benchmark on which full data scores 0 is skipped.
    """
    if not names or any(arm not in ratios.get(name, {}) for name in names):
        return None
    drawn = np.stack([ratios[name][arm] for name in names])  # (B, R)
    count = (~np.isnan(drawn)).sum(axis=0)
    mean: Floats = np.nansum(drawn, axis=0)[count > 0] / count[count > 0]
    return mean
