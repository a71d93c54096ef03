"""Vetoed and pinned samples: the next best takes a place, whatever the selector."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from presel_lightning.data.pool import Pool
from presel_lightning.errors import UserError
from presel_lightning.records import Selection
from presel_lightning.run.decisions import Decisions

VETOED = "vetoed in the review"
PINNED = "pinned in the review"
SUBSTITUTE = "next best, in the place of a vetoed image"
GAVE_WAY = "gave way to a pinned image"


def reviewed(
    selection: Selection, pool: Pool, decisions: Decisions, copies: np.ndarray | None = None
) -> Selection:
    """Apply the decisions of a person to a selection; its size and all other samples remain.

    A pinned sample that the method left out takes the place of the worst selected sample that is
    not pinned (one of an earlier round comes last), and then the next best sample that was left out takes the place of each vetoed one:
    of the same cluster where there is one, else of the task, else of the pool. Of a method that
    orders the whole pool at once, without clusters, it is the next best of the pool. A sample takes
    the training weight of its place, too.

    Args:
        selection: what the method selects.
        pool: every sample, with its reference split and earlier rounds. Decisions on samples of the
            reference split change nothing here.
        decisions: uids that are vetoed or pinned; others than those of the pool are passed over.
        copies: (N,) samples that show what another one shows; none takes a place.

    Returns:
        The selection, with `review` in its `meta`: how many samples of the pool are vetoed and
        pinned. Fewer samples where too few are left, with a warning.

    Raises:
        UserError: more samples are pinned than there is room for.
    """
    decisions = decisions.among(pool.uid)
    if not decisions:
        return selection
    places = _Places(selection, pool, decisions, copies)
    pinned = np.sort(pool.rows(decisions.pinned))
    if (n := int((~pool.reference[pinned]).sum())) > len(places.rows):
        raise UserError(
            f"{n} samples are pinned in review.jsonl, and {len(places.rows)} are selected besides the "
            "reference split; raise data.budget, or unpin some in `review`"
        )
    for row in pinned:
        places.bring_in(row)
    n_short = sum(not places.refill(row) for row in places.vetoed_rows())
    return places.selection(n_short)


class _Places:
    """The places of a selection, each with its sample and its training weight."""

    def __init__(
        self, selection: Selection, pool: Pool, decisions: Decisions, copies: np.ndarray | None
    ) -> None:
        self.before, self.pool, self.decisions = selection, pool, decisions
        self.rows = pool.rows(selection.uids)
        self.weights = dict(zip(self.rows.tolist(), selection.weights, strict=True))
        self.vetoed, self.pinned = _marked(pool, decisions.vetoed), _marked(pool, decisions.pinned)
        self.reason = selection.reason.copy()
        self.reason[self.vetoed & ~pool.reference] = VETOED
        self.reason[self.pinned & ~pool.reference] = PINNED
        _, self.task = np.unique(pool.task.astype(str), return_inverse=True)
        self.free = ~pool.reference & ~self.vetoed
        if copies is not None:
            self.free &= ~copies
        self.held = _marked(pool, selection.uids)
        self.order = _order(selection)
        # a vetoed sample goes first, then the worst; one of an earlier round may be annotated
        self.worst_first = len(pool) * (1 + pool.earlier - 2 * self.vetoed) - self.order
        self.in_pool_order = (selection.rank == 0).sum() == 1 and not (selection.cluster >= 0).any()

    def bring_in(self, row: int) -> None:
        """Let a pinned sample take the place of a selected one."""
        if row in self.weights or self.pool.reference[row]:
            return
        leaving = self._nearest(row, self.held & ~self.pinned, self.worst_first)
        assert leaving is not None, "there are no more pinned samples than places"
        self.weights[row] = self.weights.pop(leaving)
        self.held[[leaving, row]] = False, True
        if not self.vetoed[leaving]:
            self.reason[leaving] = GAVE_WAY

    def vetoed_rows(self) -> list[int]:
        """Return the vetoed samples that hold a place, best first."""
        return sorted((r for r in self.weights if self.vetoed[r]), key=lambda r: int(self.order[r]))

    def refill(self, row: int) -> bool:
        """Let the next best sample take the place of a vetoed one; return whether there is one."""
        weight = self.weights.pop(row)
        self.held[row] = False
        found = self._nearest(row, self.free & ~self.held, self.order)
        if found is not None:
            self.weights[found] = weight
            self.held[found] = True
            self.reason[found] = SUBSTITUTE
        return found is not None

    def _nearest(self, row: int, among: np.ndarray, order: np.ndarray) -> int | None:
        """Return the first sample in an order, of the smallest group of a row that has one."""
        task = among & (self.task == self.task[row])
        cluster = task & (self.before.cluster == self.before.cluster[row])
        groups = [among] if self.in_pool_order else [cluster, task, among]
        for group in groups:
            rows = np.flatnonzero(group)
            if len(rows):
                return int(rows[order[rows].argmin()])
        return None

    def selection(self, n_short: int) -> Selection:
        """Return the selection of the samples that hold a place now."""
        pool, rows = self.pool, np.array(sorted(self.weights), dtype=np.int64)
        meta = dict(self.before.meta)
        counts = {"vetoed": int(self.vetoed.sum()), "pinned": int(self.pinned.sum())}
        if n_short:
            line = (
                f"{n_short} vetoed samples have no substitute, as no other sample is left: fewer are "
                "selected than data.budget allows"
            )
            meta["warnings"] = [*meta.get("warnings", []), line]
        return replace(
            self.before,
            uids=pool.uid[rows],
            weights=np.array([self.weights[row] for row in rows.tolist()], dtype=float),
            reason=self.reason,
            budgets={task: int((pool.task[rows] == task).sum()) for task in pool.tasks},
            meta={**meta, "review": counts},
        )


def _marked(pool: Pool, uids: Iterable[str]) -> np.ndarray:
    marks = np.zeros(len(pool), dtype=bool)
    marks[pool.rows(uids)] = True
    return marks


def _order(selection: Selection) -> np.ndarray:
    """Place of each sample, (N,) integers: by rank, then by score, then by uid; those without last."""
    rank = np.where(selection.rank < 0, np.iinfo(np.int64).max, selection.rank)
    score = np.nan_to_num(np.asarray(selection.score, dtype=float), nan=-np.inf)
    order = np.empty(len(rank), dtype=np.int64)
    order[np.lexsort((-score, rank))] = np.arange(len(rank))
    return order
