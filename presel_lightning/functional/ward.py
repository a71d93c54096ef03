"""Ward's clusters of a task, cut at a fraction of the height of the last merge."""

from __future__ import annotations

import numpy as np
import torch
from scipy.cluster.hierarchy import fcluster, linkage

from presel_lightning.functional.kmeans import kmeans

EXACT = 20_000
"""Rows up to which the linkage is that of all rows; its distances take 8 * N^2 / 2 bytes."""
MICRO = 4096
"""Centroids that stand for the rows of a larger task."""


def ward_labels(
    rows: np.ndarray, cut: float, *, seed: int, exact: int = EXACT, micro: int = MICRO
) -> np.ndarray:
    """Cluster rows by Ward's linkage, cut at a fraction of the height of the final merge.

    More than `exact` rows are first divided by k-means into `micro` groups, whose centroids are
    linked by Ward's criterion with the sizes of the groups as weights. Heights then leave out the
    inertia inside the groups.

    Args:
        rows: (N, D) of any float dtype.
        cut: fraction of the largest height.
        seed: of k-means.
        exact: rows up to which all of them are linked.
        micro: groups of a larger table.

    Returns:
        (N,) int64 labels from 0, in the order in which they occur.
    """
    if len(rows) < 2:
        return np.zeros(len(rows), dtype=np.int64)
    if len(rows) <= exact:
        tree = linkage(rows.astype(np.float64), "ward")
        return in_order(cut_at(tree, cut))
    groups = kmeans(torch.from_numpy(rows), micro, seed=seed)
    sizes = torch.bincount(groups.labels).double().numpy()
    tree = weighted_ward(groups.centroids.double().numpy(), sizes)
    return in_order(cut_at(tree, cut)[groups.labels.numpy()])


def cut_at(tree: np.ndarray, cut: float) -> np.ndarray:
    """Cut a linkage (n - 1, 4) at a fraction of its largest height; (n,) labels from 1."""
    labels: np.ndarray = fcluster(tree, cut * tree[-1, 2], criterion="distance")
    return labels


def in_order(labels: np.ndarray) -> np.ndarray:
    """Number labels from 0 in the order in which they occur."""
    _, first, place = np.unique(labels, return_index=True, return_inverse=True)
    number = np.empty(len(first), dtype=np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    renamed: np.ndarray = number[place]
    return renamed


def weighted_ward(points: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    r"""Link points that stand for several rows each, by chains of nearest neighbors.

    .. math:: d^2(i, j) = \frac{2 \, n_i n_j}{n_i + n_j} \lVert \mu_i - \mu_j \rVert^2

    which is the Euclidean distance for two single rows. Merged clusters are represented by their
    centroid and size.

    Args:
        points: (n, D) float64 centroids.
        sizes: (n,) rows that each stands for.

    Returns:
        (n - 1, 4) linkage as scipy has it: two clusters, height, number of points; ascending.

    Source: Murtagh, "A Survey of Recent Advances in Hierarchical Clustering Algorithms", 1983.
    """
    weight = sizes.astype(np.float64, copy=True)
    cost = ward_costs(points, weight)  # (n, n)
    merges: list[tuple[int, int, float]] = []
    chain: list[int] = []
    alive = np.ones(len(points), dtype=bool)
    while len(merges) < len(points) - 1:
        chain = chain or [int(np.argmax(alive))]
        nearest = int(np.argmin(cost[chain[-1]]))
        if len(chain) == 1 or cost[chain[-1], nearest] < cost[chain[-1], chain[-2]]:
            chain.append(nearest)
            continue
        one, other = sorted((chain.pop(), chain.pop()))  # each is the nearest of the other
        merges.append((one, other, float(np.sqrt(cost[one, other]))))
        merge(cost, weight, one, other)
        alive[other] = False
    return _linkage(merges, len(points))


def ward_costs(points: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Compute the squared heights at which any two points would be merged; infinite with itself."""
    squares = np.einsum("ij,ij->i", points, points)
    cost = points @ points.T
    cost *= -2
    cost += squares[:, None]
    cost += squares
    np.maximum(cost, 0, out=cost)
    cost *= 2 * weight * weight[:, None] / (weight + weight[:, None])
    np.fill_diagonal(cost, np.inf)
    found: np.ndarray = cost
    return found


def merge(cost: np.ndarray, weight: np.ndarray, one: int, other: int) -> None:
    """Put two clusters together in the place of the first, by the formula of Lance and Williams."""
    a, b = weight[one], weight[other]
    new = (a + weight) * cost[one] + (b + weight) * cost[other] - weight * cost[one, other]
    new /= a + b + weight
    new[[one, other]] = np.inf
    cost[one], cost[:, one] = new, new
    cost[other], cost[:, other] = np.inf, np.inf
    weight[one] = a + b


def _linkage(merges: list[tuple[int, int, float]], n: int) -> np.ndarray:
    """Sort merges by height, and name the clusters as scipy does."""
    tree = np.zeros((n - 1, 4))
    name, count, parent = list(range(n)), [1] * n, list(range(n))

    def root(point: int) -> int:
        while parent[point] != point:
            parent[point] = parent[parent[point]]
            point = parent[point]
        return point

    for step, (one, other, height) in enumerate(sorted(merges, key=lambda merge: merge[2])):
        a, b = root(one), root(other)
        count[a] += count[b]
        parent[b] = a
        tree[step] = (*sorted((name[a], name[b])), height, count[a])
        name[a] = n + step
    return tree
