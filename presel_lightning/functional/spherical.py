"""Spherical k-means over rows that are read from disk block by block."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

BLOCK = 2048
"""Rows that are held at a time."""


class Spherical(NamedTuple):
    """Result of `spherical_kmeans`."""

    labels: Tensor
    """(N,) int64 cluster of each row."""
    centroids: Tensor
    """(C, D) float32, of unit length."""


def spherical_kmeans(
    rows: np.ndarray, places: np.ndarray, n_clusters: int, *, seed: int, n_iter: int = 20
) -> Spherical:
    r"""Maximize :math:`\sum_i \langle x_i, \mu_{l(i)} \rangle` over centroids of unit length.

    Lloyd's passes from rows drawn by seed; they end when no row moves. A cluster that loses its last
    row restarts at the row that is least like its centroid. Beside the centroids and their sums
    only one block of rows is held, in float32.

    Args:
        rows: (V, D) of any float dtype, memory-mapped or not.
        places: (N,) which of them, in order.
        n_clusters: number of clusters; N where there are fewer rows.
        seed: of the first centroids.
        n_iter: maximum number of passes.
    """
    n_clusters = min(n_clusters, len(places))
    drawn = np.sort(np.random.default_rng(seed).permutation(len(places))[:n_clusters])
    centroids = _read(rows, places[drawn])
    labels = torch.full((len(places),), -1)
    for _ in range(n_iter):
        before, (labels, near, sums) = labels, _assign(rows, places, centroids)
        if torch.equal(before, labels):
            break
        empty = (torch.bincount(labels, minlength=n_clusters) == 0).nonzero()[:, 0]
        centroids = normalize(sums, dim=1)
        if len(empty):
            apart = near.argsort(stable=True)[: len(empty)]
            centroids[empty] = _read(rows, places[apart.numpy()])
    return Spherical(labels, centroids)


def _assign(
    rows: np.ndarray, places: np.ndarray, centroids: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Nearest centroid (N,), cosine with it (N,), and sums of the rows of each (C, D)."""
    labels, near = torch.empty(len(places), dtype=torch.long), torch.empty(len(places))
    sums = torch.zeros_like(centroids)
    for start in range(0, len(places), BLOCK):
        part = slice(start, start + BLOCK)
        block = _read(rows, places[part])
        near[part], labels[part] = (block @ centroids.T).max(dim=1)
        sums.index_add_(0, labels[part], block)
    return labels, near, sums


def _read(rows: np.ndarray, places: np.ndarray) -> Tensor:
    """Rows of unit length, float32."""
    return normalize(torch.from_numpy(np.asarray(rows[places], dtype=np.float32)), dim=1)
