"""Bootstrap intervals over test items: of every arm's scores, and of paired differences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from presel_lightning.eval.intervals.bootstrap import (
    Credits,
    Floats,
    percentile_interval,
    resampled_scores,
)

Json = dict[str, Any]

AGAINST = ("random", "full")
"""Arms that the final arm is compared with, item by item."""
ROUNDING = 1e-3
"""Tolerance in points between a score and the score of its items."""


class Kept(NamedTuple):
    """Stored credits of the items of a benchmark.

    Attributes:
        credits: credits of one arm.
        ids: ids of the items, where they have some.
        scale: score at which every credit is 1.
    """

    credits: Credits
    ids: list[str] | None
    scale: float

    def pairs_with(self, other: Kept) -> bool:
        """Return whether another arm was scored on the same items."""
        ours, theirs = self.credits, other.credits
        same = (ours.groups, ours.units, self.ids) == (theirs.groups, theirs.units, other.ids)
        return same and self.scale == other.scale and len(ours.values) == len(theirs.values)


def score_intervals(
    details: Mapping[str, Json], seed: int = 0
) -> dict[str, dict[str, list[float]]]:
    """Compute 95 % intervals of the scores.

    Args:
        details: {arm: scores file of the benchmark callback}.
        seed: seed of the bootstrap.

    Returns:
        {arm: {benchmark: [low, high]}} in the scores' unit, where the credits of a benchmark's
        items were kept and give its score.
    """
    return {
        arm: {
            name: percentile_interval(kept.scale * resampled_scores(kept.credits, seed=seed)[:, 0])
            for name, kept in read_kept(scores).items()
        }
        for arm, scores in details.items()
    }


def paired_intervals(details: Mapping[str, Json], seed: int = 0) -> list[Json]:
    """Compute the final arm minus others on the same items, with 95 % intervals.

    Items are resampled in pairs, so that their difficulty cancels. The intervals do not cover the
    variance over training seeds.

    Returns:
        One row per benchmark and arm, in the scores' unit.
    """
    found = []
    others = {arm: read_kept(details.get(arm, {})) for arm in AGAINST}
    for name, ours in read_kept(details.get("final", {})).items():
        for arm in AGAINST:
            theirs = others[arm].get(name)
            if theirs is None or not ours.pairs_with(theirs):
                continue
            drawn = ours.scale * _differences(ours.credits, theirs.credits, seed)
            low, high = percentile_interval(drawn)
            row = {"benchmark": name, "against": arm, "low": low, "high": high}
            difference = ours.scale * (ours.credits.score() - theirs.credits.score())
            row |= {"difference": round(difference, 4), "scale": ours.scale}
            found.append({**row, "n": len(ours.credits.values)})
    return found


def read_kept(scores: Json) -> dict[str, Kept]:
    """Read the credits of the benchmarks whose items reproduce the score."""
    found = {}
    for name, part in scores.get("benchmarks", {}).items():
        if not part.get("items") or part["score"] is None:
            continue
        lists = (part.get(f"item_{what}") for what in ("tasks", "weights", "units"))
        kept = Kept(Credits(part["items"], *lists), part.get("item_ids"), part.get("scale", 100.0))
        if math.isclose(kept.scale * kept.credits.score(), part["score"], abs_tol=ROUNDING):
            found[name] = kept
    return found


def _differences(ours: Credits, theirs: Credits, seed: int) -> Floats:
    """Compute bootstrap differences of two models' scores, (R,)."""
    if ours.weights == theirs.weights:  # then it is the score of the differences
        pairs = [a - b for a, b in zip(ours.values, theirs.values, strict=True)]
        return resampled_scores(ours._replace(values=pairs), seed=seed)[:, 0]
    both = resampled_scores(ours, theirs, seed=seed)  # (R, 2)
    return both[:, 0] - both[:, 1]
