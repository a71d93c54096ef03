"""PreSel (CVPR 2025): task budgets from the IRS, typical images of each cluster."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from presel_lightning.data.pool import Pool
from presel_lightning.functional import allocate, kmeans, official_task_budgets, task_weights
from presel_lightning.records import Selection
from presel_lightning.selectors.base import Selector
from presel_lightning.selectors.in_task import Allocation, choose
from presel_lightning.signals import FEATURES, PAIRED_LOSS, Signals


class PreSel(Selector):
    """Spend the budget where questions matter, on the images most like their neighbours.

    Tasks: s(T) = mean IRS of the task's reference samples, w = softmax(-s / temperature), and a
    task gets w of the budget. Images: k-means inside each task, the budget spread over clusters by
    their size, and in each cluster the highest Neighbor Centrality.

    Args:
        allocation: `exact` meets the budget to the sample; `floor` rounds down as Eq. 6 is
            printed; `official` rounds and mends as the authors' scripts do.
        temperature: of the softmax over tasks; 1/sqrt(number of tasks) where not given.
        images_per_cluster: a task of n images gets max(1, n // this) clusters.
        neighbors: k of the Neighbor Centrality.

    Source: Safaei et al., "Filter Images First, Generate Instructions Later", Eq. 1-7.
    """

    needs: ClassVar[tuple[str, ...]] = (FEATURES, PAIRED_LOSS)

    def __init__(
        self,
        allocation: Allocation = "exact",
        temperature: float | None = None,
        images_per_cluster: int = 100,
        neighbors: int = 5,
    ) -> None:
        self.allocation = allocation
        self.temperature = temperature
        self.images_per_cluster = images_per_cluster
        self.neighbors = neighbors

    def select(self, pool: Pool, signals: Signals, budget: int, *, seed: int) -> Selection:
        """Weigh the tasks, cluster each, and take its most typical images."""
        weights = task_weights(task_relevance(pool, signals), self.temperature)  # (M,)
        score = np.full(len(pool), np.nan)
        cluster = np.full(len(pool), -1, dtype=np.int64)
        rank = np.full(len(pool), -1, dtype=np.int64)
        chosen: list[np.ndarray] = []
        shares = self.task_budgets(pool, weights, budget)
        for task, share in zip(pool.tasks, shares, strict=True):
            rows = pool.task_rows(task)
            features = torch.from_numpy(signals.features(pool, rows))  # (n, D)
            labels, _ = kmeans(features, max(1, len(rows) // self.images_per_cluster), seed=seed)
            excluded = torch.from_numpy(pool.reference[rows])
            picked = choose(features, labels, share, excluded, self.allocation, k=self.neighbors)
            score[rows], cluster[rows] = picked.score.numpy(), labels.numpy()
            rank[rows] = picked.rank.numpy()
            chosen.append(rows[picked.rows.numpy()])
        rows = np.concatenate(chosen)
        if self.allocation == "official":
            rows = np.concatenate([rows, shortfall(pool, rows, budget, seed)])
        rows.sort()
        return Selection(
            uids=pool.uid[rows],
            weights=np.ones(len(rows)),
            score=score,
            cluster=cluster,
            rank=rank,
            reason=reasons(pool, rows),
            budgets={task: int((pool.task[rows] == task).sum()) for task in pool.tasks},
            task_weights=dict(zip(pool.tasks, weights.tolist(), strict=True)),
        )

    def task_budgets(self, pool: Pool, weights: Tensor, budget: int) -> list[int] | list[float]:
        """Samples that each task gets, in the order of `pool.tasks`."""
        sizes = [int((~pool.reference[pool.task_rows(task)]).sum()) for task in pool.tasks]
        if self.allocation == "floor":
            return [weight * budget for weight in weights.tolist()]
        if self.allocation == "official":
            counts: list[int] = official_task_budgets(weights, budget, torch.tensor(sizes)).tolist()
            return counts
        exact: list[int] = allocate(weights, torch.tensor(sizes), budget).tolist()
        return exact


def shortfall(pool: Pool, chosen: np.ndarray, budget: int, seed: int) -> np.ndarray:
    """What the authors' scripts draw at random where their rounding left the budget unmet."""
    rest = np.setdiff1d(np.flatnonzero(~pool.reference), chosen)
    missing = max(0, budget - len(chosen))
    return np.random.default_rng(seed).permutation(rest)[:missing]


def task_relevance(pool: Pool, signals: Signals) -> Tensor:
    """s(T), the mean IRS of each task's reference samples, (M,); NaN where none is defined.

    Source: PreSel, Eq. 4.
    """
    table = signals.paired_loss()
    task = np.asarray(table["task"].to_pylist())
    irs = table["irs"].to_numpy(zero_copy_only=False).astype(np.float64)  # null becomes NaN
    means = []
    for name in pool.tasks:
        values = irs[task == name]
        values = values[np.isfinite(values)]
        means.append(values.mean() if len(values) else np.nan)
    return torch.tensor(means, dtype=torch.float64)


def reasons(pool: Pool, chosen: np.ndarray) -> np.ndarray:
    """One phrase a row: (N,)."""
    words = np.full(len(pool), "less typical of its cluster", dtype=object)
    words[pool.reference] = "reference split"
    words[chosen] = "typical of its cluster"
    return words
