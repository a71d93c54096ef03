"""Clusters of a task's images, the same whatever the order of the rows or the thread count."""

import hashlib
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from presel_lightning.functional.threads import map_blocks, single_threaded

_SAMPLE = 10  # points a centroid that the seeding looks at


class KMeans(NamedTuple):
    """Result of `kmeans`."""

    labels: Tensor
    """(N,) int64, each of 0 … C-1 at least once."""
    centroids: Tensor
    """(C, D) float32, the mean of each cluster's rows."""


class _Points(NamedTuple):
    """Distinct rows in the order of a digest, with what is needed to find the way back."""

    rows: Tensor  # (U, D) as stored
    weight: Tensor  # (U,) float64, how often each occurs
    inverse: Tensor  # (N,) the distinct row of each row
    block: int
    threads: int


def kmeans(
    features: Tensor,
    n_clusters: int,
    *,
    seed: int,
    n_iter: int = 100,
    tol: float = 1e-5,
    block: int = 1024,
) -> KMeans:
    r"""Cluster rows so that :math:`\sum_i \lVert x_i - \mu_{l(i)} \rVert^2` is small.

    Greedy k-means++ on a sample, then Lloyd. Equal rows count as one row of higher weight, and
    rows are taken in the order of a digest of their values: labels depend on the *set* of rows and
    the seed alone. No cluster is ever empty: one that loses its last row starts again at the row
    that is farthest from its centroid.

    Args:
        features: (N, D) of a float dtype, in memory or memory-mapped; one copy is held, in the
            same dtype. Work is done in float32, sums in float64.
        n_clusters: Clusters wanted. There are fewer where fewer distinct rows exist.
        seed: Of the seeding.
        n_iter: Most passes of Lloyd.
        tol: Stop when a pass lowers the sum by less than this part of it.
        block: Rows a matrix product. Part of the result's identity: last bits depend on it.

    Returns:
        `KMeans`: labels (N,), centroids (C, D).

    Raises:
        ValueError: No rows, no clusters, or a feature that is not finite.

    >>> kmeans(torch.tensor([[0.0], [9.0], [0.1]]), 2, seed=0).labels.unique(return_counts=True)[1]
    tensor([2, 1])
    """
    if features.dim() != 2 or len(features) == 0 or n_clusters < 1:
        raise ValueError(
            f"expected rows (N, D) and at least one cluster, got {tuple(features.shape)} "
            f"and {n_clusters}"
        )
    with single_threaded() as threads:
        points = _distinct(features, block, threads)
        generator = torch.Generator().manual_seed(seed)
        centroids = _seeding(points, min(n_clusters, len(points.rows)), generator)
        labels, centroids = _lloyd(points, centroids, n_iter, tol)
        return KMeans(labels[points.inverse], centroids)


def _distinct(features: Tensor, block: int, threads: int) -> _Points:
    if features.dtype == torch.float64:
        features = features.float()

    def digests(start: int, stop: int) -> bytes:
        rows = features[start:stop].float().cpu() + 0.0  # no negative zero
        if not rows.isfinite().all():
            raise ValueError(f"features of rows {start} to {stop - 1} are not all finite")
        return b"".join(hashlib.sha256(row).digest()[:16] for row in rows.numpy())

    digest = np.frombuffer(
        b"".join(map_blocks(digests, len(features), block, threads)), dtype="S16"
    )
    _, first, inverse, counts = np.unique(
        digest, return_index=True, return_inverse=True, return_counts=True
    )
    return _Points(
        rows=features[torch.from_numpy(first)].cpu(),
        weight=torch.from_numpy(counts).double(),
        inverse=torch.from_numpy(inverse),
        block=block,
        threads=threads,
    )


def _seeding(points: _Points, k: int, generator: torch.Generator) -> Tensor:
    """Greedy k-means++ on a sample: each centroid the best of a few draws by squared distance."""
    size = min(len(points.rows), max(_SAMPLE * k, 1000))
    sample = torch.randperm(len(points.rows), generator=generator)[:size]
    rows, weight = points.rows[sample].float(), points.weight[sample]  # (S, D), (S,)
    norms = rows.square().sum(dim=1)  # (S,)
    draws = 2 + int(np.log(k))
    chosen = _draw(weight, 1, generator).tolist()
    nearest = _distances(rows, norms, rows[chosen])[:, 0]  # (S,)
    while len(chosen) < k:
        candidates = _draw(nearest * weight, draws, generator)  # (draws,)
        distance = torch.minimum(
            _distances(rows, norms, rows[candidates]), nearest[:, None]
        )  # (S, draws)
        best = int((weight[None] @ distance.double()).argmin())
        chosen.append(int(candidates[best]))
        nearest = distance[:, best]
    return rows[chosen]


def _draw(mass: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Row numbers drawn in proportion to their mass."""
    cumulative = mass.double().cumsum(dim=0)
    at = torch.rand(n, generator=generator, dtype=torch.float64) * cumulative[-1]
    return torch.searchsorted(cumulative, at, right=True).clamp(max=len(mass) - 1)


def _distances(rows: Tensor, norms: Tensor, centroids: Tensor) -> Tensor:
    """Squared Euclidean distances, (rows, centroids)."""
    square = centroids.square().sum(dim=1)
    return torch.addmm(square, rows, centroids.T, alpha=-2).add_(norms[:, None]).clamp_(min=0)


def _lloyd(points: _Points, centroids: Tensor, n_iter: int, tol: float) -> tuple[Tensor, Tensor]:
    """Assign and average in turn; labels (U,) without a gap, centroids (C, D)."""
    before = torch.inf
    for _ in range(n_iter):
        labels, distance = _assign(points, centroids)
        _reseat(labels, distance, len(centroids))
        centroids = _means(points, labels, len(centroids))
        inertia = float(points.weight @ distance.double())
        if before - inertia <= tol * inertia:
            break
        before = inertia
    return labels, centroids


def _assign(points: _Points, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest centroid of each row and the squared distance to it, (U,) each."""

    def nearest(start: int, stop: int) -> tuple[Tensor, Tensor]:
        rows = points.rows[start:stop].float()
        distance, label = _distances(rows, rows.square().sum(dim=1), centroids).min(dim=1)
        return label, distance

    results = map_blocks(nearest, len(points.rows), points.block, points.threads)
    labels, distances = zip(*results, strict=True)
    return torch.cat(labels), torch.cat(distances)


def _reseat(labels: Tensor, distance: Tensor, k: int) -> None:
    """Give each empty cluster the farthest row that is not alone in its own, in place."""
    counts = torch.bincount(labels, minlength=k)
    empty = (counts == 0).nonzero()[:, 0].tolist()
    farthest = iter(distance.argsort(descending=True, stable=True).tolist() if empty else [])
    for label in empty:
        row = next(row for row in farthest if counts[labels[row]] > 1)
        counts[labels[row]] -= 1
        labels[row] = label
        distance[row] = 0


def _means(points: _Points, labels: Tensor, k: int) -> Tensor:
    """Mean row of each cluster, summed in float64 in the order of the rows; (C, D) float32."""
    sums = torch.zeros(k, points.rows.shape[1], dtype=torch.float64)
    for start in range(0, len(labels), points.block):
        part = slice(start, start + points.block)
        weighted = points.rows[part].double() * points.weight[part, None]
        sums.index_add_(0, labels[part], weighted)
    mass = torch.zeros(k, dtype=torch.float64).index_add_(0, labels, points.weight)
    return (sums / mass[:, None]).float()
