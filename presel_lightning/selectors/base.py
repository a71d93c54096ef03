"""The interface of a selector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from presel_lightning.data.pool import Pool
from presel_lightning.functional.allocation import allocate
from presel_lightning.records import Selection
from presel_lightning.selectors.checks import finite_scores, numbers
from presel_lightning.selectors.part import Part
from presel_lightning.signals import Signals


class Selector(ABC):
    """Base class: select the samples of a pool that get an instruction."""

    needs: ClassVar[tuple[str, ...]] = ()
    """Signals that the selector reads; the recipe computes only these."""

    takes_copies: ClassVar[bool] = False
    """Whether the selector is given a picture under each of its names, whatever `data.copies` says."""

    moved: ClassVar[Mapping[str, str]] = {}
    """New place of each argument of an earlier version, for the error message."""

    def fingerprint(self) -> object:
        """Return what the selection depends on besides class, arguments and signals.

        By default the fingerprints of its nested parts; a selector that reads a file adds the
        content.
        """
        parts = {k: v.fingerprint() for k, v in vars(self).items() if isinstance(v, Part)}
        return parts or None

    def on_pairs(self) -> None:
        """Take what fits image-text pairs for options that are left open; `two_tower` is set."""

    @abstractmethod
    def select(self, pool: Pool, signals: Signals, budget: int, *, seed: int) -> Selection:
        """Select `budget` samples in addition to the reference split.

        Args:
            pool: every sample; `pool.reference` (N,) marks those that are never selected.
            signals: the signals that `needs` names.
            budget: samples to add to the reference split.
            seed: seed of every random number.

        Returns:
            The selection, with scores, ranks and reasons of all samples.
        """


class RankSelector(Selector):
    """Base class: select the samples with the highest scores of the whole pool."""

    @abstractmethod
    def score(self, pool: Pool, signals: Signals) -> Tensor:
        """Compute the score of every sample, (N,); the highest are selected.

        Real numbers (float or integer), finite outside the reference split; anything else is
        refused by the name of the class.
        """

    def weights(self, pool: Pool, signals: Signals, rows: np.ndarray) -> Tensor:
        """Compute the training weight of each selected sample, (n,); 1 unless overridden.

        Weights are relative: a sample of the reference split has weight 1. They are finite, not
        negative, and not all 0; `data.weights` sets how they are applied in training.

        Args:
            pool: every sample.
            signals: the signals that `needs` names.
            rows: (n,) row numbers of the selected samples, ascending.
        """
        return torch.ones(len(rows))

    def select(self, pool: Pool, signals: Signals, budget: int, *, seed: int) -> Selection:
        """Select the `budget` highest scores outside the reference split; ties by uid."""
        who = f"selector {type(self).__name__}"
        score = finite_scores(self.score(pool, signals), pool, who)
        order = best_first(pool, score)
        selection = make_selection(pool, order, min(budget, len(order)), score, "highest score")
        weights = self.weights(pool, signals, pool.rows(selection.uids))
        n = len(selection.uids)
        return replace(selection, weights=numbers(weights, n, who, "weights", "selected samples"))


def best_first(pool: Pool, score: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
    """Sort the available rows by descending score, ties by uid.

    Args:
        pool: every sample, in the order of its uid.
        score: (N,) score of every row.
        rows: the rows to order, ascending; None means all.

    Returns:
        (A,) row numbers outside the reference split, best first.

    Raises:
        ValueError: a score of these is NaN or infinite, which has no place in an order.
    """
    rows = np.arange(len(pool)) if rows is None else rows
    available = rows[~pool.reference[rows]]
    if not (known := np.isfinite(score[available])).all():
        raise ValueError(f"{(~known).sum()} of {len(known)} scores are NaN or infinite")
    ordered: np.ndarray = available[np.argsort(-score[available], kind="stable")]
    return ordered


def budgets_by_size(pool: Pool, budget: int) -> list[int]:
    """Allocate a budget to the tasks in proportion to their images, in the order of `pool.tasks`.

    Largest remainder; the capacity of a task is its images outside the reference split.
    """
    rows = [pool.task_rows(task) for task in pool.tasks]
    sizes = torch.tensor([pool.sizes[task] for task in pool.tasks])
    available = torch.tensor([int((~pool.reference[r]).sum()) for r in rows])
    shares: list[int] = allocate(sizes, available, budget).tolist()
    return shares


def make_selection(
    pool: Pool, order: np.ndarray, budget: int, score: np.ndarray, reason: str
) -> Selection:
    """Build a selection of the first `budget` rows of an order.

    Args:
        pool: every sample.
        order: (A,) the available rows, best first.
        budget: samples to select.
        score: (N,) score of every row.
        reason: reason of the selected samples.
    """
    rank = np.full(len(pool), -1, dtype=np.int64)
    rank[order] = np.arange(len(order))
    return selection_of(pool, order[:budget], score, rank, reason=reason)


def selection_of(
    pool: Pool,
    rows: np.ndarray,
    score: np.ndarray,
    rank: np.ndarray,
    *,
    reason: str,
    otherwise: str = "not among the best",
    cluster: np.ndarray | None = None,
    task_weights: dict[str, float] | None = None,
) -> Selection:
    """Build a selection of the given rows.

    Args:
        pool: every sample.
        rows: (n,) row numbers, in any order.
        score: (N,) score of every row.
        rank: (N,) rank in its cluster, task or pool; -1 where it has none.
        reason: reason of the selected samples.
        otherwise: reason of the others.
        cluster: (N,) cluster inside the task or the pool.
        task_weights: share of the budget of each task.
    """
    rows = np.sort(rows)
    reasons = np.full(len(pool), otherwise, dtype=object)
    reasons[pool.reference] = "reference split"
    reasons[rows] = reason
    return Selection(
        uids=pool.uid[rows],
        weights=np.ones(len(rows)),
        score=np.where(pool.reference, np.nan, score),
        cluster=np.full(len(pool), -1, dtype=np.int64) if cluster is None else cluster,
        rank=rank,
        reason=reasons,
        budgets={task: int((pool.task[rows] == task).sum()) for task in pool.tasks},
        task_weights=task_weights or {},
    )


def extended(selection: Selection, pool: Pool, earlier: Sequence[str]) -> Selection:
    """Extend earlier rounds to a selection of the same size as the given one.

    Earlier samples replace the newly selected samples of the worst rank; ties by uid. An earlier
    sample that the method does not select now has weight 1.

    Args:
        selection: what the method selects now.
        pool: every sample.
        earlier: uids that were selected before; none is in the reference split.

    Returns:
        The extended selection.
    """
    kept, wanted = pool.rows(earlier), pool.rows(selection.uids)
    # a larger reference split may leave fewer samples than were selected before
    kept = np.sort(kept[np.argsort(selection.rank[kept], kind="stable")][: len(wanted)])
    new = np.setdiff1d(wanted, kept)
    n_new = max(0, len(wanted) - len(kept))
    new = new[np.argsort(selection.rank[new], kind="stable")][:n_new]
    rows = np.union1d(kept, new)
    weights = np.ones(len(pool))
    weights[wanted] = selection.weights
    reason = selection.reason.copy()
    reason[wanted] = "replaced by a sample of an earlier round"
    reason[new] = selection.reason[new]
    reason[kept] = "selected in an earlier round"
    return replace(
        selection,
        uids=pool.uid[rows],
        weights=weights[rows],
        reason=reason,
        budgets={task: int((pool.task[rows] == task).sum()) for task in pool.tasks},
    )
