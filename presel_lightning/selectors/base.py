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
from presel_lightning.errors import UserError
from presel_lightning.functional.allocation import allocate
from presel_lightning.records import Selection
from presel_lightning.selectors.part import Part
from presel_lightning.signals import Signals


class Selector(ABC):
    """Choose the samples of a pool that are worth an instruction."""

    needs: ClassVar[tuple[str, ...]] = ()
    """Signals that must lie on disk; the recipe makes only these."""

    moved: ClassVar[Mapping[str, str]] = {}
    """Where an argument of an earlier version is now, for the error message."""

    def fingerprint(self) -> object:
        """What the selection rests on beside class, arguments and signals.

        By default its nested parts; a selector that reads a file returns the content.
        """
        parts = {k: v.fingerprint() for k, v in vars(self).items() if isinstance(v, Part)}
        return parts or None

    @abstractmethod
    def select(self, pool: Pool, signals: Signals, budget: int, *, seed: int) -> Selection:
        """Choose `budget` samples beside the reference split.

        Args:
            pool: every sample; `pool.reference` (N,) marks those that are never chosen.
            signals: what `needs` asks for.
            budget: samples to add to the reference split.
            seed: of every random draw.
        """


class RankSelector(Selector):
    """Keep the samples with the highest score, over the whole pool."""

    @abstractmethod
    def score(self, pool: Pool, signals: Signals) -> Tensor:
        """Utility of every sample, (N,); higher is kept first."""

    def weights(self, pool: Pool, signals: Signals, rows: np.ndarray) -> Tensor:
        """Training weight of each selected sample, (n,); 1 unless a method overrides this.

        Weights are relative: a sample of the reference split weighs 1. They are finite, not
        negative, and not all 0; `data.weights` says how they train.

        Args:
            pool: every sample.
            signals: what `needs` asks for.
            rows: (n,) row numbers of the selected samples, ascending.
        """
        return torch.ones(len(rows))

    def select(self, pool: Pool, signals: Signals, budget: int, *, seed: int) -> Selection:
        """Keep the `budget` highest scores outside the reference, with their weights; ties by uid."""
        score = self.score(pool, signals).double().numpy()
        order = best_first(pool, score)
        selection = make_selection(pool, order, min(budget, len(order)), score, "highest score")
        weights = self.weights(pool, signals, pool.rows(selection.uids))
        return replace(selection, weights=torch.as_tensor(weights).double().numpy())


def best_first(pool: Pool, score: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
    """Available rows by falling score, ties by uid.

    Args:
        pool: every sample, in the order of its uid.
        score: (N,) utility of every row.
        rows: the rows to order, ascending; all where not given.
    """
    rows = np.arange(len(pool)) if rows is None else rows
    available = rows[~pool.reference[rows]]
    ordered: np.ndarray = available[np.argsort(-score[available], kind="stable")]
    return ordered


def budgets_by_size(pool: Pool, budget: int) -> list[int]:
    """Share a budget among the tasks in proportion to their images, in the order of `pool.tasks`.

    Largest remainder; a task gives no more than it has outside the reference split.
    """
    rows = [pool.task_rows(task) for task in pool.tasks]
    sizes = torch.tensor([len(r) for r in rows])
    available = torch.tensor([int((~pool.reference[r]).sum()) for r in rows])
    shares: list[int] = allocate(sizes, available, budget).tolist()
    return shares


def make_selection(
    pool: Pool, order: np.ndarray, budget: int, score: np.ndarray, reason: str
) -> Selection:
    """A selection that takes the first `budget` rows of an order, best first.

    Args:
        pool: every sample.
        order: (A,) the available rows, best first.
        budget: how many to take.
        score: (N,) utility of every row.
        reason: why the chosen ones were.
    """
    rank = np.full(len(pool), -1, dtype=np.int64)
    rank[order] = np.arange(len(order))
    return selection_of(pool, order[:budget], score, rank, reason=reason)


def selection_of(
    pool: Pool,
    chosen: np.ndarray,
    score: np.ndarray,
    rank: np.ndarray,
    *,
    reason: str,
    otherwise: str = "not among the best",
    cluster: np.ndarray | None = None,
    task_weights: dict[str, float] | None = None,
) -> Selection:
    """A selection of these rows.

    Args:
        pool: every sample.
        chosen: (n,) row numbers, in any order.
        score: (N,) utility of every row.
        rank: (N,) place in its own cluster, task or pool; -1 where it has none.
        reason: why the chosen ones were.
        otherwise: why the others were not.
        cluster: (N,) cluster inside the task or the pool.
        task_weights: share of the budget of each task.
    """
    chosen = np.sort(chosen)
    reasons = np.full(len(pool), otherwise, dtype=object)
    reasons[pool.reference] = "reference split"
    reasons[chosen] = reason
    return Selection(
        uids=pool.uid[chosen],
        weights=np.ones(len(chosen)),
        score=np.where(pool.reference, np.nan, score),
        cluster=np.full(len(pool), -1, dtype=np.int64) if cluster is None else cluster,
        rank=rank,
        reason=reasons,
        budgets={task: int((pool.task[chosen] == task).sum()) for task in pool.tasks},
        task_weights=task_weights or {},
    )


def check_weights(selection: Selection, name: str) -> None:
    """Refuse training weights that nothing can be trained by.

    Args:
        selection: what a selector returned.
        name: of the selector.

    Raises:
        UserError: there is not one weight for each sample, or one is negative or not finite (as a
            32-bit number), or all are 0.
    """
    weights, n = np.asarray(selection.weights, dtype=np.float64), len(selection.uids)
    if weights.shape != (n,):
        fault = f"weights of shape {weights.shape} for {n} selected samples"
    elif (wrong := ~((weights >= 0) & (weights <= np.finfo(np.float32).max))).any():
        fault = f"a weight of {weights[wrong][0]} for {selection.uids[wrong][0]}"
        fault += f" ({wrong.sum()} such of {n})"
    elif n and not weights.astype(np.float32).any():
        fault = f"a weight of 0 for all {n} selected samples"
    else:
        return
    raise UserError(
        f"selector {name} returned {fault}; return one for each selected sample, finite and 0 or "
        "more, not all 0"
    )


def extended(selection: Selection, pool: Pool, earlier: Sequence[str]) -> Selection:
    """A selection of the same size that keeps what was chosen before.

    Of what is new, the samples with the worst places in their clusters make room; ties by uid. What
    the method would not choose now has no weight of its own, so it weighs 1.

    Args:
        selection: what the method would choose now.
        pool: every sample.
        earlier: uids that were chosen before; none is in the reference split.
    """
    kept, wanted = pool.rows(earlier), pool.rows(selection.uids)
    # a reference split that grew may leave less room than there was
    kept = np.sort(kept[np.argsort(selection.rank[kept], kind="stable")][: len(wanted)])
    new = np.setdiff1d(wanted, kept)
    room = max(0, len(wanted) - len(kept))
    new = new[np.argsort(selection.rank[new], kind="stable")][:room]
    rows = np.union1d(kept, new)
    weights = np.ones(len(pool))
    weights[wanted] = selection.weights
    reason = selection.reason.copy()
    reason[wanted] = "made room for an earlier round"
    reason[new] = selection.reason[new]
    reason[kept] = "chosen in an earlier round"
    return replace(
        selection,
        uids=pool.uid[rows],
        weights=weights[rows],
        reason=reason,
        budgets={task: int((pool.task[rows] == task).sum()) for task in pool.tasks},
    )
