"""How far the test items leave the scores open: every arm's interval, and paired differences."""

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
"""Arms that the final one is compared with, item by item."""
ROUNDING = 1e-3
"""Points by which a score may differ from that of its items."""


class Kept(NamedTuple):
    """What was kept of the items of a benchmark.

    Attributes:
        credits: of one arm.
        ids: of the items, where they have some.
        scale: score where every credit is 1.
    """

    credits: Credits
    ids: list[str] | None
    scale: float

    def pairs_with(self, other: Kept) -> bool:
        """Whether another arm was asked the very same."""
        ours, theirs = self.credits, other.credits
        same = (ours.groups, ours.units, self.ids) == (theirs.groups, theirs.units, other.ids)
        return same and self.scale == other.scale and len(ours.values) == len(theirs.values)


def score_intervals(
    details: Mapping[str, Json], seed: int = 0
) -> dict[str, dict[str, list[float]]]:
    """95 % intervals of the scores.

    Args:
        details: {arm: what the benchmark callback wrote}.
        seed: of the bootstrap.

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
    """The final arm minus others on the same items, with 95 % intervals, in the scores' unit.

    The items are drawn again in pairs, so that what both arms find hard or easy does not count.
    The intervals know nothing of how another training seed would come out.
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
    """Credits of the benchmarks whose items give the very score."""
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
    """Resampled score of one model minus that of another, (R,)."""
    if ours.weights == theirs.weights:  # then it is the score of the differences
        pairs = [a - b for a, b in zip(ours.values, theirs.values, strict=True)]
        return resampled_scores(ours._replace(values=pairs), seed=seed)[:, 0]
    both = resampled_scores(ours, theirs, seed=seed)  # (R, 2)
    return both[:, 0] - both[:, 1]
