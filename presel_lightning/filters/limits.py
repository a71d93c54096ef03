"""The score from which on a fraction of a pool is kept, in memory that does not grow with it.

Each file leaves its scores sorted. The score at a position of all of them is found by bisection over
the numbers that there are, counting in every file.
"""

from __future__ import annotations

import mmap
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import repeat

import numpy as np

from presel_lightning.errors import UserError
from presel_lightning.filters.rule import Limit
from presel_lightning.filters.scored import Scored
from presel_lightning.run.arrays import advise

ALL = 1 << 64
"""Above every scrambled uid."""
NOTHING = Limit(np.inf, 0)
TIE = np.dtype([("key", "<u8"), ("row", "<i8")])
"""A row at the limit: scrambled uid, and number in its file."""


def kept_of(fraction: float, n: int) -> int:
    """int(fraction * n), where 0.29 * 100 is 29."""
    return int(fraction * n + 1e-9)


def looked_up(runs: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    """The same arrays, for access to single numbers."""
    for run in runs:
        advise(run, mmap.MADV_RANDOM)
    return runs


def largest(runs: Sequence[np.ndarray], position: int) -> float:
    """The score at a position, from 0, of all scores in descending order."""
    low, high = 0, (1 << 64) - 1  # keys of floats, in their order
    first, last = [0] * len(runs), list(map(len, runs))  # where they are in each run
    scored = sum(last)
    while low < high:
        middle = (low + high + 1) // 2
        score = np.float64(float_of(middle))
        places = [bisect_left(*some) for some in zip(runs, repeat(score), first, last)]
        if scored - sum(places) > position:
            low, first = middle, places
        else:
            high, last = middle - 1, places
    return float_of(low)


def at_least(runs: Sequence[np.ndarray], score: float) -> int:
    """How many scores are not smaller."""
    return sum(len(run) - bisect_left(run, np.float64(score)) for run in runs)


def above(runs: Sequence[np.ndarray], score: float) -> int:
    """How many scores are larger."""
    return sum(len(run) - bisect_right(run, np.float64(score)) for run in runs)


def holding(runs: Sequence[np.ndarray], score: float) -> list[int]:
    """Which runs have a score."""
    places = [bisect_left(run, np.float64(score)) for run in runs]
    pairs = zip(runs, places, strict=True)
    return [n for n, (run, i) in enumerate(pairs) if i < len(run) and run[i] == np.float64(score)]


def float_of(key: int) -> float:
    """The float64 with a key; keys have the order of the numbers, NaN below and above all of them."""
    bits = key ^ (1 << 63) if key >> 63 else key ^ ((1 << 64) - 1)
    number = float(np.uint64(bits).view(np.float64))
    if np.isnan(number):
        return np.inf if key >> 63 else -np.inf
    return number


def first_limit(rule: Scored, runs: Sequence[np.ndarray], rows: int) -> tuple[Limit, int]:
    """The score that a rule needs, and how many of the rows with just this score it keeps.

    Args:
        rule: one with a fraction.
        runs: sorted scores of each file.
        rows: of the pool, those without a score among them.

    Returns:
        (limit, ties): ties is -1 where the limit has settled them already.

    Raises:
        UserError: the published procedure has no score there.
    """
    scored = sum(map(len, runs))
    n = rows if rule.counts_all_rows else scored
    if rule.ties == "published":
        return _published(rule, runs, n, scored)
    wanted = min(kept_of(float(rule.fraction or 0), n), scored)
    if wanted == 0:
        return NOTHING, -1
    score = largest(runs, wanted - 1)
    if at_least(runs, score) == wanted:
        return Limit(score, ALL), -1
    return Limit(score, 0), wanted - above(runs, score)


def _published(rule: Scored, runs: Sequence[np.ndarray], n: int, scored: int) -> tuple[Limit, int]:
    """The score behind the fraction; all of its ties, or a draw among them."""
    position = int(float(rule.fraction or 0) * n)
    if position >= n:
        raise UserError(
            f"fraction {rule.fraction} with `ties: published`: the published procedure reads the "
            "score behind the last one and ends with IndexError; use `ties: exact`"
        )
    if position >= scored:  # NaN comes last, and nothing is at least NaN
        return NOTHING, -1
    score = largest(runs, position)
    if rule.all_ties_are_kept():
        return Limit(score, ALL), -1
    over = above(runs, score)
    share = (position - over) / (at_least(runs, score) - over)
    return Limit(score, int(share * ALL)), -1


def with_ties(limit: Limit, wanted: int, runs: Mapping[int, np.ndarray]) -> Limit:
    """A limit that keeps just so many of its ties.

    Args:
        limit: its score.
        wanted: at least 1.
        runs: ties of each file that has any, by its number, ascending; dtype `TIE`, sorted by key
            and row.
    """
    keys = [np.ascontiguousarray(run["key"]) for run in runs.values()]
    low, high = 0, ALL - 1  # the smallest key with `wanted` ties up to it
    while low < high:
        middle = (low + high) // 2
        if sum(int(np.searchsorted(k, np.uint64(middle), "right")) for k in keys) >= wanted:
            high = middle
        else:
            low = middle + 1
    missing = wanted - sum(int(np.searchsorted(k, np.uint64(low), "left")) for k in keys)
    for (unit, run), key in zip(runs.items(), keys, strict=True):
        some = run["row"][
            np.searchsorted(key, np.uint64(low)) : np.searchsorted(key, np.uint64(low), "right")
        ]
        if len(some) >= missing:
            return Limit(limit.score, low, unit, int(some[missing - 1]) + 1)
        missing -= len(some)
    raise AssertionError("fewer ties than counted")
