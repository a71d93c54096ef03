"""The part that methods with clusters inside each task share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from presel_lightning.data.pool import Pool
from presel_lightning.functional.kmeans import KMeans, kmeans
from presel_lightning.selectors.in_cluster import Order
from presel_lightning.selectors.in_task import Allocation, choose
from presel_lightning.signals import Signals


class Cluster(Protocol):
    """What cuts a task into clusters: `kmeans`, or the same with options of its own."""

    def __call__(self, features: Tensor, n_clusters: int, *, seed: int) -> KMeans:
        """Labels (n,) and centroids (C, D) of the rows (n, D)."""
        ...


class Chosen(NamedTuple):
    """Result of `choose_in_tasks`."""

    rows: np.ndarray
    """(n,) the chosen row numbers, task after task."""
    score: np.ndarray
    """(N,) Neighbor Centrality; NaN in the reference split."""
    cluster: np.ndarray
    """(N,) cluster inside the sample's task."""
    rank: np.ndarray
    """(N,) place by score in the cluster, from 0; -1 in the reference split."""


def choose_in_tasks(
    pool: Pool,
    signals: Signals,
    shares: Sequence[float],
    *,
    images_per_cluster: int,
    order: Order,
    seed: int,
    allocation: Allocation = "exact",
    cluster: Cluster = kmeans,
) -> Chosen:
    """Cluster each task, and take the first images of each cluster.

    A task of n images, the reference split included, is cut into max(1, n // images_per_cluster)
    clusters; what is taken of them is `in_task.choose`. One task's features are held at a time.

    Args:
        pool: every sample.
        signals: features.
        shares: (M,) samples that each task gets, in the order of `pool.tasks`.
        images_per_cluster: images of a task for each of its clusters.
        order: which images of a cluster go first.
        seed: of the clustering.
        allocation: how a task's share is rounded over its clusters.
        cluster: what cuts a task into clusters.

    Source: PreSel, Eq. 6-7.
    """
    score = np.full(len(pool), np.nan)
    labels = np.full(len(pool), -1, dtype=np.int64)
    rank = np.full(len(pool), -1, dtype=np.int64)
    chosen: list[np.ndarray] = []
    for task, share in zip(pool.tasks, shares, strict=True):
        rows = pool.task_rows(task)
        features = torch.from_numpy(signals.features(pool, rows))  # (n, D)
        clusters = cluster(features, max(1, len(rows) // images_per_cluster), seed=seed)
        excluded = torch.from_numpy(pool.reference[rows])
        picked = choose(features, clusters.labels, share, excluded, allocation, order=order)
        score[rows], labels[rows] = picked.score.numpy(), clusters.labels.numpy()
        rank[rows] = picked.rank.numpy()
        chosen.append(rows[picked.rows.numpy()])
    return Chosen(np.concatenate(chosen), score, labels, rank)
