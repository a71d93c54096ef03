"""TypiClust (ICML 2022): as many clusters as labels, and the most typical image of each."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from presel_lightning.data.pool import Pool
from presel_lightning.functional.centrality import members_by_label
from presel_lightning.functional.kmeans import kmeans
from presel_lightning.functional.typicality import typical_first
from presel_lightning.records import Selection
from presel_lightning.run.ranges import Count, Fraction
from presel_lightning.selectors.base import Selector, budgets_by_size, selection_of
from presel_lightning.selectors.in_task import Order
from presel_lightning.selectors.within.clusters import repetitions_last
from presel_lightning.signals import Features, Signals

_SMALL = 5  # clusters of no more images come last


class TypiClust(Selector):
    r"""Select the most typical image of each cluster in turn, clusters with few labels first.

    .. math:: K = \min(|L| + B, 500), \qquad T(x) = \Bigl(\frac{1}{k}
        \sum_{x' \in \mathrm{kNN}(x)} \lVert x - x' \rVert_2 + 10^{-5}\Bigr)^{-1}

    with L the reference samples and B the budget of the task. Clusters are sorted by how many of L
    they hold, then by size, largest first. From each in turn its most typical remaining image is
    selected and removed, also as a neighbor; k is 20, or half the cluster.

    Budget: per task, in proportion to its images; each task is clustered separately.

    Differences to the published code:

    - Tasks. The paper has one pool of one task; here a task is a pool, as for every method that
      clusters, so that only clusters of the same task compete.
    - Clusters of 5 images or fewer are not excluded but come after all others, and an empty cluster
      is skipped, where the published code raises an error, so that the selection is exactly the
      budget.
    - Distances are Euclidean as in the paper; the published code averages squared distances.
    - Only rows that lose a neighbor are recomputed, which gives the same picks.

    Args:
        max_clusters: maximum number of clusters of a task.
        neighbors: k of the typicality.
        near_duplicates: cosine similarity above which an image counts as a near duplicate of
            another of its cluster and comes last, such as 0.98.

    Source: Hacohen, Dekel, Weinshall, "Active Learning on a Budget", ICML 2022, Algorithm 1, Eq. 4.
    """

    needs: ClassVar[tuple[str, ...]] = (Features.name,)

    def __init__(
        self,
        max_clusters: Count = 500,
        neighbors: Count = 20,
        near_duplicates: Fraction | None = None,
    ) -> None:
        self.max_clusters = max_clusters
        self.neighbors = neighbors
        self.near_duplicates = near_duplicates

    def select(self, pool: Pool, signals: Signals, budget: int, *, seed: int) -> Selection:
        """Cluster each task and select from its clusters in turn."""
        score = np.full(len(pool), np.nan)
        cluster = np.full(len(pool), -1, dtype=np.int64)
        rank = np.full(len(pool), -1, dtype=np.int64)
        taken = np.zeros(len(pool), dtype=bool)
        for task, share in zip(pool.tasks, budgets_by_size(pool, budget), strict=True):
            rows = pool.task_rows(task)
            features = torch.from_numpy(signals.features(pool, rows))  # (n, D)
            labeled = torch.from_numpy(pool.reference[rows])
            n_clusters = max(1, min(int(labeled.sum()) + share, self.max_clusters))
            labels = kmeans(features, n_clusters, seed=seed).labels
            cluster[rows] = labels.numpy()
            quotas = round_robin(labels, labeled, share)
            free = (~labeled).nonzero()[:, 0]
            for members in members_by_label(labels[free]):
                local = free[members]
                count = int(quotas[labels[local[0]]])
                order, typicality = self.order(features[local], count)
                here, best = rows[local.numpy()], order.numpy()
                score[here] = typicality.numpy()
                rank[here[best]] = np.arange(len(here))
                taken[here[best[:count]]] = True
        return selection_of(
            pool,
            np.flatnonzero(taken),
            score,
            rank,
            reason="most typical of its cluster",
            otherwise="less typical of its cluster",
            cluster=cluster,
        )

    def order(self, features: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Order the available images of one cluster: its turns, then the others by typicality.

        Args:
            features: (n, D) in the order of uid.
            count: turns of the cluster.

        Returns:
            (n,) row numbers in order; (n,) float64 typicality of the rows.
        """
        order: Order = partial(turns_first, count=count, neighbors=self.neighbors)
        if self.near_duplicates is not None:
            order = repetitions_last(order, self.near_duplicates)
        return order(features)


def turns_first(features: Tensor, *, count: int, neighbors: int) -> tuple[Tensor, Tensor]:
    """Order rows by `typical_first`, and those without a turn by typicality; see `TypiClust.order`."""
    picks, typicality = typical_first(features, min(count, len(features)), neighbors)
    left = typicality.index_fill(0, picks, -torch.inf).argsort(descending=True, stable=True)
    return torch.cat([picks, left[: len(features) - len(picks)]]), typicality


def round_robin(labels: Tensor, labeled: Tensor, total: int) -> Tensor:
    """Compute the number of images that round-robin over the clusters selects from each.

    Turns go by fewest labeled images, then by most images, then by cluster number; clusters of
    5 images or fewer take part once the others are exhausted.

    Args:
        labels: (n,) cluster of each image, 0 … C-1.
        labeled: (n,) bool, images that are labeled already.
        total: images to select.

    Returns:
        (C,) int64 that sums to `min(total, images not labeled)`.
    """
    sizes = torch.bincount(labels)
    known = torch.bincount(labels[labeled], minlength=len(sizes))
    capacity = sizes - known
    quotas = torch.zeros_like(sizes)
    turns = torch.from_numpy(np.lexsort((-sizes.numpy(), known.numpy())))
    for group in (turns[sizes[turns] > _SMALL], turns[sizes[turns] <= _SMALL]):
        left = total - int(quotas.sum())
        while left > 0 and len(group := group[quotas[group] < capacity[group]]):
            # as many full rounds as the capacities of the group and the budget allow
            rounds = min(int((capacity - quotas)[group].min()), left // len(group))
            if rounds == 0:
                group = group[:left]
                rounds = 1
            quotas[group] += rounds
            left -= rounds * len(group)
    return quotas
