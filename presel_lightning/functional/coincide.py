"""COINCIDE's shares of the clusters, and its choice inside a cluster."""

from __future__ import annotations

import numpy as np

SIMILAR = 0.9
"""Cosine above which two centroids count as the same skill."""
COLUMNS = 4096
"""Columns of the rows of a cluster that are held in float64 at a time."""


def gaussian_kernel(rows: np.ndarray) -> np.ndarray:
    r"""Compute :math:`e^{-\lVert x_i - x_j \rVert^2 / 2}` for all rows (n, D), (n, n) float64."""
    gram = np.zeros((len(rows), len(rows)))
    for start in range(0, rows.shape[1], COLUMNS):
        part = rows[:, start : start + COLUMNS].astype(np.float64)
        gram += part @ part.T
    squares = np.diagonal(gram)
    apart = np.maximum(squares[:, None] + squares - 2 * gram, 0.0)
    np.fill_diagonal(apart, 0.0)
    kernel: np.ndarray = np.exp(-apart / 2)
    return kernel


def transferability(centroids: np.ndarray) -> np.ndarray:
    """Compute the mean cosine of each centroid (C, D) with the others, (C,).

    Cosines above 0.9 count as the same skill and are left out. 0 where none is left.
    """
    length = np.linalg.norm(centroids, axis=1, keepdims=True)
    unit = centroids / np.where(length > 0, length, 1.0)
    found = np.empty(len(unit))
    for start in range(0, len(unit), 1024):
        near = unit[start : start + 1024] @ unit.T
        other = near <= SIMILAR
        own = np.arange(len(near))
        other[own, start + own] = False
        sums, counts = np.where(other, near, 0.0).sum(axis=1), other.sum(axis=1)
        found[start : start + 1024] = sums / np.maximum(counts, 1)
    return found


def cluster_shares(transfer: np.ndarray, density: np.ndarray, temperature: float) -> np.ndarray:
    r"""Compute :math:`P_c \propto e^{S_c / (D_c \tau)}`, (C,)."""
    logits = transfer / (density * temperature)
    weights = np.exp(logits - logits.max())
    shares: np.ndarray = weights / weights.sum()
    return shares


def cluster_quotas(shares: np.ndarray, sizes: np.ndarray, budget: int) -> np.ndarray:
    """Give each cluster, the largest share first, its part of what is left; (C,) int64.

    A part is rounded, and limited by the size of the cluster; what it cannot hold passes on to the
    next ones. Rounds are repeated until the budget is met or no cluster has room.
    """
    quota = np.zeros(len(sizes), dtype=np.int64)
    order = np.argsort(-shares, kind="stable")
    left = min(budget, int(sizes.sum()))
    while left > 0:
        open_ones = [c for c in order if quota[c] < sizes[c]]
        mass, given = float(shares[open_ones].sum()), 0
        for c in open_ones:
            part = shares[c] / mass if mass > 0 else 1.0
            more = min(round(left * part), int(sizes[c] - quota[c]), left)
            mass -= float(shares[c])
            quota[c] += more
            left -= more
            given += more
        if not given:  # all parts round to 0
            quota[open_ones[0]] += 1
            left -= 1
    return quota


def closest_subset(kernel: np.ndarray, allowed: np.ndarray, n: int) -> np.ndarray:
    r"""Pick rows one by one so that their distribution stays closest to that of the cluster.

    Each pick minimizes the squared maximum mean discrepancy of the picked rows S:

    .. math:: \overline{K_{CC}} + \overline{K_{SS}} - 2 \, \overline{K_{CS}}

    Args:
        kernel: (m, m) of the cluster.
        allowed: (m,) bool, the rows that may be picked.
        n: number of picks, at most the allowed rows.

    Returns:
        (n,) row numbers in the order of the picks; ties go to the lower row.
    """
    mean = kernel.mean(axis=1)
    inside = np.zeros(len(kernel))  # sum of the kernel with the picked rows
    within = across = 0.0
    own = np.diagonal(kernel)
    free = allowed.copy()
    picked: list[int] = []
    for size in range(1, n + 1):
        cost = (within + 2 * inside + own) / size**2 - 2 * (across + mean) / size
        cost = np.where(free, cost.round(12), np.inf)
        row = int(cost.argmin())
        picked.append(row)
        free[row] = False
        within += 2 * inside[row] + own[row]
        across += mean[row]
        inside += kernel[row]
    return np.array(picked, dtype=np.int64)
