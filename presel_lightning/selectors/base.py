"""The interface of a selector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from torch import Tensor

from presel_lightning.data.pool import Pool
from presel_lightning.records import Selection
from presel_lightning.signals import Signals


class Selector(ABC):
    """Choose the samples of a pool that are worth an instruction."""

    needs: ClassVar[tuple[str, ...]] = ()
    """Signals that must lie on disk; the recipe makes only these."""

    def fingerprint(self) -> object:
        """What the choice rests on beside class, arguments and signals: the content of a file."""
        return None

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

    def select(self, pool: Pool, signals: Signals, budget: int, *, seed: int) -> Selection:
        """Keep the `budget` highest scores outside the reference; ties by uid."""
        score = self.score(pool, signals).double().numpy()
        available = np.flatnonzero(~pool.reference)
        order = available[np.argsort(-score[available], kind="stable")]
        return make_selection(pool, order, min(budget, len(order)), score, "highest score")


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
    chosen = np.sort(order[:budget])
    reasons = np.full(len(pool), "not among the best", dtype=object)
    reasons[pool.reference] = "reference split"
    reasons[chosen] = reason
    return Selection(
        uids=pool.uid[chosen],
        weights=np.ones(len(chosen)),
        score=np.where(pool.reference, np.nan, score),
        cluster=np.full(len(pool), -1, dtype=np.int64),
        rank=rank,
        reason=reasons,
        budgets={task: int((pool.task[chosen] == task).sum()) for task in pool.tasks},
    )
