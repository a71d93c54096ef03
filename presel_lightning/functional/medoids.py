"""Medoids: one image of each of as many clusters as images are selected."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from presel_lightning.functional.allocation import allocate
from presel_lightning.functional.centrality import members_by_label
from presel_lightning.functional.duplicates import similarity_to_earlier
from presel_lightning.functional.kmeans import KMeans, distinct_rows, kmeans
from presel_lightning.functional.threads import single_threaded

LARGEST = 32_768
"""Rows up to which one k-means has all clusters; more are divided first."""

_BLOCK = 1024


class Medoids(NamedTuple):
    """Result of `medoids`."""

    order: Tensor
    """(A,) int64, the rows that are not taken, in the order in which they are selected."""
    labels: Tensor
    """(N,) int64 cluster of each row."""
    distance: Tensor
    """(N,) float64 Euclidean distance of each row to the centroid of its cluster."""


def medoids(
    features: Tensor,
    n_medoids: int,
    taken: Tensor | None = None,
    *,
    seed: int,
    near_duplicates: float | None = None,
    device: torch.device | str = "cpu",
    largest: int = LARGEST,
) -> Medoids:
    r"""Order rows so that the first ``n_medoids`` are the medoids of as many clusters.

    .. math:: K = t + m, \qquad x_c = \arg\min_{x \in c} \lVert x - \mu_c \rVert_2

    for m medoids beside t rows that are taken. Clusters without taken rows go first, then larger
    ones; each gives its nearest row to the centroid once before any gives a second. A row whose
    cluster holds u taken rows waits u rounds more. Copies (equal rows) of a taken row or of an
    earlier row come after all others.

    Args:
        features: (N, D) of a float dtype, finite.
        n_medoids: m, rows to select.
        taken: (N,) bool, rows that are selected already, such as the reference split.
        seed: Seed of the clustering.
        near_duplicates: Cosine similarity above which a row counts as a copy of another row of its
            cluster, such as 0.98.
        device: Device of the clustering, see `kmeans`.
        largest: Rows up to which the clustering is one k-means; see `divided_kmeans`.

    Returns:
        `Medoids`: order of the rows, clusters, distances.

    >>> rows = torch.tensor([[0.0], [0.2], [0.3], [9.0], [9.1], [9.3]])
    >>> medoids(rows, 2, seed=0).order[:2].sort().values
    tensor([1, 4])
    """
    n = len(features)
    taken = torch.zeros(n, dtype=torch.bool) if taken is None else taken
    k = min(n, max(1, int(taken.sum()) + n_medoids))
    labels, centroids = divided_kmeans(features, k, seed=seed, device=device, largest=largest)
    distance = torch.cat(
        [
            (features[rows].double() - centroids[labels[rows]].double()).norm(dim=1)
            for rows in torch.arange(n).split(_BLOCK)
        ]
    )
    copies = repeated(features, taken)
    sizes, known = torch.bincount(labels), torch.bincount(labels[taken], minlength=len(centroids))
    turn = torch.zeros(n, dtype=torch.int64)  # round in which a row is selected
    # distances that are equal to 1e-9 tie, and a tie goes to the earlier row
    nearest = distance.round(decimals=9)
    for members in members_by_label(labels):
        best = members[nearest[members].argsort(stable=True)]
        best = torch.cat([best[taken[best]], best[~taken[best]]])
        if near_duplicates is not None and len(best) > 1:
            copies[best] |= (similarity_to_earlier(features[best]) > near_duplicates) & ~taken[best]
        last = torch.cat([best[~copies[best]], best[copies[best]]])
        turn[last] = torch.arange(len(last))
    order = torch.arange(n)
    for key in (-sizes[labels], turn, known[labels] > 0, copies):  # the last key counts most
        order = order[key[order].argsort(stable=True)]
    return Medoids(order[~taken[order]], labels, distance)


def divided_kmeans(
    features: Tensor,
    n_clusters: int,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    largest: int = LARGEST,
) -> KMeans:
    """Cluster rows by `kmeans`, in parts of at most about ``largest`` rows.

    Up to ``largest`` rows this is `kmeans` itself. More rows are first divided into the clusters of
    a k-means, recursively, and each part gets clusters in proportion to its inertia. Cost grows
    linearly in N at a constant fraction of clusters; inertia is 1 to 2 % above that of one k-means
    (docs/benchmarks.md).

    Args:
        features: (N, D) of a float dtype.
        n_clusters: Number of clusters; fewer where fewer distinct rows exist.
        seed: Seed of the initialization.
        device: Device, see `kmeans`.
        largest: Rows up to which a part is not divided.

    Returns:
        `KMeans`: labels (N,), centroids (C, D).
    """
    parts = -(-len(features) // largest)
    if parts == 1 or n_clusters < 2 * parts:
        return kmeans(features, n_clusters, seed=seed, device=device)
    coarse = kmeans(features, parts, seed=seed, device=device)
    members = members_by_label(coarse.labels)
    if len(members) == 1:  # all rows are equal
        return coarse
    inertia = torch.tensor(
        [
            _inertia(features[rows], centroid)
            for rows, centroid in zip(members, coarse.centroids, strict=True)
        ]
    )
    sizes = torch.tensor([len(rows) for rows in members])
    # each part has a cluster, the rest is shared by inertia
    shares = 1 + allocate(inertia, sizes - 1, n_clusters - len(members))
    labels = torch.empty(len(features), dtype=torch.int64)
    centroids: list[Tensor] = []
    for rows, share in zip(members, shares.tolist(), strict=True):
        part = divided_kmeans(features[rows], share, seed=seed, device=device, largest=largest)
        labels[rows] = part.labels + sum(map(len, centroids))
        centroids.append(part.centroids)
    return KMeans(labels, torch.cat(centroids))


def repeated(features: Tensor, taken: Tensor) -> Tensor:
    """Find rows that equal a taken row or an earlier row; taken rows are never marked.

    >>> rows = torch.tensor([[1.0], [1.0], [2.0], [2.0]])
    >>> repeated(rows, torch.tensor([False, True, False, False]))
    tensor([ True, False, False,  True])
    """
    with single_threaded() as threads:
        group = distinct_rows(features, _BLOCK, threads)[1]
    order = torch.cat([taken.nonzero()[:, 0], (~taken).nonzero()[:, 0]])
    first = np.unique(group[order].numpy(), return_index=True)[1]
    copies = ~taken
    copies[order[first]] = False
    return copies


def _inertia(rows: Tensor, centroid: Tensor) -> float:
    """Sum of squared distances to the centroid, in float64."""
    return sum(
        float((block.double() - centroid.double()).square().sum()) for block in rows.split(_BLOCK)
    )
