"""DataTailor's scores of the samples of one task, and the quotas of the tasks."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.spatial.distance import cdist

Quota = Literal["tau2", "proportional", "uniform"]

BLOCK = 1024
"""Rows of a block of distances."""


def centroids_of(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Compute the mean of the rows (N, D) of each label 0 … B-1, (B, D) float64."""
    means = [rows[own].mean(axis=0, dtype=np.float64) for own in members_of(labels)]
    stacked: np.ndarray = np.stack(means)
    return stacked


def representativeness(
    information: np.ndarray, centroids: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    r"""Compute how like the other clusters of the task the cluster of each sample is.

    .. math:: \mathrm{rep}_i = s_i \, \frac{1}{B - 1} \sum_{c' \ne c(i)}
        e^{\cos(\mu_{c(i)}, \mu_{c'})}

    Where the task is one cluster the factor is 1.

    Args:
        information: (N,) informativeness s; ones to leave it out.
        centroids: (B, D) of the clusters.
        labels: (N,) cluster of each sample.
    """
    n = len(centroids)
    if n == 1:
        return information.astype(np.float64)
    length = np.linalg.norm(centroids, axis=1, keepdims=True)
    unit = centroids / np.where(length > 0, length, 1.0)
    factor = np.empty(n)
    for start in range(0, n, BLOCK):
        near = np.exp(unit[start : start + BLOCK] @ unit.T)  # (b, B)
        own = near[np.arange(len(near)), start + np.arange(len(near))]
        factor[start : start + BLOCK] = (near.sum(axis=1) - own) / (n - 1)
    found: np.ndarray = information * factor[labels]
    return found


def uniqueness(rows: np.ndarray, information: np.ndarray, labels: np.ndarray) -> np.ndarray:
    r"""Compute how far from the informative members of its cluster each sample lies.

    .. math:: \mathrm{uni}_i = \frac{\sum_{j \in c} d_{ij} \, s_j}
        {\frac{1}{n_c} \sum_{a, b \in c} d_{ab}}

    with Euclidean distances in float64. NaN where all distances of a cluster are 0: for a cluster
    of one, and for one of equal rows.

    Args:
        rows: (N, D) embeddings.
        information: (N,) informativeness s; ones to leave it out.
        labels: (N,) cluster of each sample.
    """
    found = np.full(len(rows), np.nan)
    for members in members_of(labels):
        if len(members) == 1:
            continue
        own = rows[members].astype(np.float64)
        weighted, total = np.empty(len(members)), 0.0
        for start in range(0, len(members), BLOCK):
            apart = cdist(own[start : start + BLOCK], own)
            weighted[start : start + BLOCK] = apart @ information[members]
            total += apart.sum()
        if total > 0:
            found[members] = weighted / (total / len(members))
    return found


def members_of(labels: np.ndarray) -> list[np.ndarray]:
    """Return the row numbers of each label 0 … B-1, ascending."""
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.cumsum(np.bincount(labels))[:-1])


def with_defined_uniqueness(
    found: np.ndarray, centroids: np.ndarray, information: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    r"""Give a uniqueness to samples for which `uniqueness` is not defined.

    - A member of a cluster of equal rows: 0, since it repeats another.
    - A cluster of one: the mean informativeness of the cluster with the nearest centroid, times the
      distance to that centroid over the mean of these distances over all clusters. This is about 1
      times an informativeness, like the values of other clusters.
    - The only cluster of a task: 0.
    """
    sizes = np.bincount(labels)
    found = np.where(np.isnan(found), 0.0, found)
    if len(centroids) == 1 or not (sizes == 1).any():
        return found
    nearest, apart = nearest_centroids(centroids)
    mean = np.bincount(labels, weights=information) / sizes
    scale = apart.mean()
    alone = sizes[labels] == 1
    own = labels[alone]
    found[alone] = mean[nearest[own]] * apart[own] / (scale if scale > 0 else 1.0)
    return found


def nearest_centroids(centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the other centroid nearest to each (B, D), and its distance; (B,) both."""
    nearest, apart = np.empty(len(centroids), dtype=np.int64), np.empty(len(centroids))
    for start in range(0, len(centroids), BLOCK):
        between = cdist(centroids[start : start + BLOCK], centroids)
        own = np.arange(len(between))
        between[own, start + own] = np.inf
        nearest[start : start + BLOCK] = between.argmin(axis=1)
        apart[start : start + BLOCK] = between.min(axis=1)
    return nearest, apart


def ranks(values: np.ndarray) -> np.ndarray:
    """Rank values (N,) from 0 to 1 - 1/N, ascending, in float32; equal ones by row, NaN last.

    >>> ranks(np.array([3.0, 1.0, 2.0, 1.0])).tolist()
    [0.75, 0.0, 0.5, 0.25]
    """
    rank = np.empty(len(values), dtype=np.float32)
    rank[np.argsort(values, kind="stable")] = np.arange(len(values), dtype=np.float32)
    share: np.ndarray = rank / np.float32(max(1, len(values)))
    return share


def fused(
    turns: np.ndarray, information: np.ndarray, unique: np.ndarray, represents: np.ndarray
) -> np.ndarray:
    r"""Fuse three ranks, informativeness weighted by the number of turns R.

    .. math:: \frac{R_i \, r_s(i) + r_{uni}(i) + r_{rep}(i)}{R_i + 2}

    Args:
        turns: (N,) answers of each conversation.
        information: (N,) rank of the informativeness.
        unique: (N,) rank of the uniqueness.
        represents: (N,) rank of the representativeness.
    """
    weight = turns.astype(np.float32)
    found: np.ndarray = (weight * information + unique + represents) / (weight + np.float32(2))
    return found


def quota_weights(sizes: np.ndarray, tau: np.ndarray, rule: Quota) -> np.ndarray:
    r"""Compute the weight of each task in the budget, (T,).

    `tau2` is :math:`N_t \bar\tau_t^2`, the published rule: tasks whose spectra are concentrated, as
    those of short answers are, get more. `proportional` is the size, `uniform` the same for all.

    Args:
        sizes: (T,) samples of each task.
        tau: (T,) mean concentration of each.
        rule: one of these.
    """
    by_rule = {"tau2": sizes * tau**2, "proportional": sizes, "uniform": np.ones(len(sizes))}
    weights: np.ndarray = by_rule[rule].astype(np.float64)
    return weights
