"""The interface of a rule that selects inside one task, and the loop over the tasks of a pool."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from presel_lightning.data.pool import Pool
from presel_lightning.selectors.checks import numbers, require_finite
from presel_lightning.selectors.in_task import Allocation
from presel_lightning.selectors.part import Part
from presel_lightning.signals import Features, Signals


class Selected(NamedTuple):
    """Selection of a rule in one task of n images."""

    rows: Tensor
    """(b,) int64, the selected row numbers, ascending."""
    score: Tensor
    """(n,) float64, higher is better; NaN in the reference split."""
    cluster: Tensor
    """(n,) int64 cluster of each row; -1 where the rule has none."""
    rank: Tensor
    """(n,) int64 rank in its cluster or task, from 0; -1 in the reference split."""


class Within(Part):
    """Base class of a rule that selects images inside one task."""

    needs = (Features.name,)
    reason: ClassVar[str] = "among the best of its task"
    """Reason of a selected image."""
    otherwise: ClassVar[str] = "not among the best of its task"
    """Reason of an image that is not selected."""

    @abstractmethod
    def select(
        self,
        features: Tensor,
        budget: float,
        excluded: Tensor,
        allocation: Allocation = "exact",
        *,
        earlier: Tensor | None = None,
        seed: int,
    ) -> Selected:
        """Select `budget` rows of a task, or all that are available where these are fewer.

        Args:
            features: (n, D) of the task's images, the reference split included, in the order of uid.
            budget: rows to select, an integer; only with ``"floor"`` a fraction of a row.
            excluded: (n,) bool, rows of the reference split, which are never selected.
            allocation: how the budget is rounded where a rule allocates it to clusters.
            earlier: (n,) bool, rows of earlier rounds, which stay selected and count in the budget.
                A rule may pass over them: they replace its selection of the worst rank.
            seed: seed of every random number.
        """


class SelectedInTasks(NamedTuple):
    """Result of `select_in_tasks`; rows are those of the pool."""

    rows: np.ndarray
    """(b,) the selected row numbers, task after task."""
    score: np.ndarray
    """(N,) score by the rule; NaN in the reference split."""
    cluster: np.ndarray
    """(N,) cluster inside the sample's task."""
    rank: np.ndarray
    """(N,) rank in its cluster or task, from 0; -1 in the reference split."""


def select_in_tasks(
    pool: Pool,
    signals: Signals,
    budgets: Sequence[float],
    within: Within,
    *,
    seed: int,
    allocation: Allocation = "exact",
) -> SelectedInTasks:
    """Select inside each task by the same rule; the features of one task are in memory at a time.

    Args:
        pool: every sample.
        signals: features.
        budgets: (M,) samples of each task, in the order of `pool.tasks`.
        within: the rule.
        seed: seed of every random number.
        allocation: how a task's budget is rounded over its clusters.
    """
    score = np.full(len(pool), np.nan)
    cluster = np.full(len(pool), -1, dtype=np.int64)
    rank = np.full(len(pool), -1, dtype=np.int64)
    selected: list[np.ndarray] = []
    for task, budget in zip(pool.tasks, budgets, strict=True):
        rows = pool.task_rows(task)
        features = torch.from_numpy(signals.features(pool, rows))  # (n, D)
        excluded = torch.from_numpy(pool.reference[rows])
        earlier = torch.from_numpy(pool.earlier[rows])
        found = within.select(features, budget, excluded, allocation, earlier=earlier, seed=seed)
        score[rows] = in_task_scores(found.score, pool, rows, within)
        cluster[rows], rank[rows] = found.cluster.numpy(), found.rank.numpy()
        selected.append(rows[found.rows.numpy()])
    return SelectedInTasks(np.concatenate(selected), score, cluster, rank)


def in_task_scores(found: Tensor, pool: Pool, rows: np.ndarray, within: Within) -> np.ndarray:
    """Return the scores of a task (n,), which must be finite outside the reference split.

    Raises:
        UserError: they are not, or of another shape or dtype.
    """
    who = f"rule {type(within).__name__}"
    score = numbers(found, len(rows), who, "scores", "samples of a task")
    require_finite(score, pool, rows, who)
    return score
