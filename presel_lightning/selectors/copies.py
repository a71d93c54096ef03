"""One picture under several names: selected once, whatever the selector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from presel_lightning.data.pool import Pool
from presel_lightning.errors import UserError
from presel_lightning.records import Selection
from presel_lightning.selectors.base import Selector
from presel_lightning.selectors.checks import check_selection
from presel_lightning.signals import Signals

Copies = Literal["once", "keep"]
"""Whether a picture under several names is selected once, or may be under each."""
KEPT_ONE = "a copy of another image of its task"


def check_copies(copies: str) -> None:
    """Check the value of `data.copies`.

    Raises:
        UserError: it is unknown.
    """
    if copies not in (known := get_args(Copies)):
        raise UserError(f"data.copies {copies!r} is unknown; choose from {', '.join(known)}")


def later_copies(pool: Pool, first: np.ndarray | None = None) -> np.ndarray:
    """Mark the samples that show what another sample of their task shows, all but one of each.

    Two samples are copies if task and content of the image file are equal, and so are their
    instructions where the annotation file holds these: other instructions of one image are other
    samples. The reference split goes first, then `first`, then the order of the uids; no sample of
    the reference split is marked.

    Args:
        pool: every sample, in the order of its uid.
        first: (N,) samples that precede others; None for none.

    Returns:
        (N,) bool.
    """
    said = pool.turns_digest.copy()
    said[~pool.in_file] = np.zeros(1, said.dtype)
    _, task = np.unique(pool.task.astype(str), return_inverse=True)
    halves = [_halves(pool.image_digest), _halves(said)]
    keys = np.column_stack([task.astype(np.uint64), *halves])  # (N, 5)
    _, group = np.unique(keys, axis=0, return_inverse=True)
    group = group.reshape(-1)
    precedes = np.zeros(len(pool), bool) if first is None else first
    order = np.lexsort((np.arange(len(pool)), ~precedes, ~pool.reference))
    _, places = np.unique(group[order], return_index=True)
    later = np.ones(len(pool), dtype=bool)
    later[order[places]] = False
    marked: np.ndarray = later & ~pool.reference
    return marked


def _halves(digests: np.ndarray) -> np.ndarray:
    """Digests of 16 bytes as two integers each, (N, 2)."""
    return np.ascontiguousarray(digests).view(np.uint64).reshape(-1, 2)


def select_once(
    selector: Selector,
    pool: Pool,
    signals: Signals,
    budget: int,
    *,
    seed: int,
    earlier: Sequence[str] = (),
    first: Sequence[str] = (),
    copies: Copies = "once",
) -> Selection:
    """Run a selector on a pool without copies, and complete its result for the whole pool.

    Sizes of tasks remain those of the whole pool. A selector that `takes_copies` is given all.

    Args:
        selector: the method.
        pool: every sample.
        signals: what the method needs.
        budget: samples to add to the reference split.
        seed: seed of every random number.
        earlier: samples that are selected already and precede their copies.
        first: other samples that precede their copies.
        copies: `keep` gives every selector all samples.

    Returns:
        The selection, checked; fewer samples than the budget where there are fewer pictures, with a
        warning in its `meta`.

    Raises:
        UserError: the selector returned no valid selection.
    """
    name = type(selector).__name__
    pool = pool.with_earlier(earlier)
    precedes = pool.earlier.copy()
    precedes[pool.rows(first)] = True
    later = later_copies(pool, precedes)
    if copies == "keep" or selector.takes_copies or not later.any():
        selection = selector.select(pool, signals, budget, seed=seed)
        check_selection(selection, pool, budget, name)
        return selection
    shown = pool.without(later)
    selection = selector.select(shown, signals, budget, seed=seed)
    check_selection(selection, shown, budget, name)
    left = int((~shown.reference).sum())
    return _completed(selection, pool, later, _shortage(budget, left))


def _shortage(budget: int, left: int) -> list[str]:
    if left >= budget:
        return []
    line = (
        f"{budget} samples were to be added, and the pool has only {left} different pictures beside "
        "the reference split: fewer are selected; data.copies: keep selects a picture under each name"
    )
    return [line]


def _completed(
    selection: Selection, pool: Pool, later: np.ndarray, warnings: list[str]
) -> Selection:
    """The selection with its columns over the whole pool; copies have no score, cluster and rank."""
    known = np.flatnonzero(~later)
    score = np.full(len(pool), np.nan)
    cluster, rank = (np.full(len(pool), -1, dtype=np.int64) for _ in range(2))
    reason = np.full(len(pool), KEPT_ONE, dtype=object)
    score[known], reason[known] = np.asarray(selection.score, dtype=float), selection.reason
    cluster[known], rank[known] = selection.cluster, selection.rank
    meta = dict(selection.meta)
    if warnings:
        meta["warnings"] = [*meta.get("warnings", []), *warnings]
    return replace(selection, score=score, cluster=cluster, rank=rank, reason=reason, meta=meta)
