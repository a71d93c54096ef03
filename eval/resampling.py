"""How far the test items leave the scores open: every arm's interval, and paired differences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from presel_lightning.eval.statistics import bootstrap_interval

Json = dict[str, Any]

AGAINST = ("random", "full")
"""Arms that the final one is compared with, item by item."""
ROUNDING = 1e-3
"""Points of a percentage by which a score may differ from that of its items."""


def score_intervals(
    details: Mapping[str, Json], seed: int = 0
) -> dict[str, dict[str, list[float]]]:
    """95 % intervals of the scores.

    Args:
        details: {arm: what the benchmark callback wrote}.
        seed: of the bootstrap.

    Returns:
        {arm: {benchmark: [low, high]}} in percent, where a benchmark kept the credit of its items.
    """
    return {
        arm: {name: interval(items, groups, seed) for name, items, groups in _kept(scores)}
        for arm, scores in details.items()
    }


def paired_intervals(details: Mapping[str, Json], seed: int = 0) -> list[Json]:
    """The final arm minus others on the same items, with 95 % intervals, in points.

    The items are drawn again in pairs, so that what both arms find hard or easy does not count.
    The intervals know nothing of how another training seed would come out.
    """
    found = []
    for name, ours, groups in _kept(details.get("final", {})):
        for arm in AGAINST:
            theirs = {n: (items, g) for n, items, g in _kept(details.get(arm, {}))}.get(name)
            if theirs is None or len(theirs[0]) != len(ours) or theirs[1] != groups:
                continue
            pairs = [a - b for a, b in zip(ours, theirs[0], strict=True)]
            low, high = interval(pairs, groups, seed)
            row = {"benchmark": name, "against": arm, "low": low, "high": high, "n": len(pairs)}
            found.append({**row, "difference": _percent(pairs, groups)})
    return found


def interval(items: Sequence[float], groups: Sequence[str] | None, seed: int) -> list[float]:
    """Lower and upper end in percent."""
    return [round(100 * end, 4) for end in bootstrap_interval(items, groups, seed=seed)]


def _kept(scores: Json) -> Iterator[tuple[str, list[float], list[str] | None]]:
    """Name, items and groups of the benchmarks whose items give the very score."""
    for name, part in scores.get("benchmarks", {}).items():
        items, groups = part.get("items"), part.get("item_tasks")
        if items and math.isclose(_percent(items, groups), part["score"], abs_tol=ROUNDING):
            yield name, items, groups


def _percent(items: Sequence[float], groups: Sequence[str] | None) -> float:
    """Mean over the groups of their means, in percent."""
    parts: dict[str, list[float]] = {}
    for value, group in zip(items, groups or [""] * len(items), strict=True):
        parts.setdefault(group, []).append(value)
    return 100 * math.fsum(math.fsum(p) / len(p) for p in parts.values()) / len(parts)
