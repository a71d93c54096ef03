"""What the members' utilities say of a cluster: prune, keep, or weigh up."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class ClusterUtility(NamedTuple):
    """Utility of each of K clusters."""

    mean: np.ndarray
    """(K,) that of the mean gradient, which is the mean of the members' utilities."""
    error: np.ndarray
    """(K,) standard error of it; infinite where one member is all that is known."""
    size: np.ndarray
    """(K,) members."""


def cluster_utilities(
    utility: np.ndarray, labels: np.ndarray, n_clusters: int, sample: int | None, seed: int
) -> ClusterUtility:
    r"""Compute :math:`U_k = v^T \hat{H}^{-1} \bar{g}_k` from the utilities of the members.

    Args:
        utility: (n,) :math:`v^T \hat{H}^{-1} g_i` of each sample.
        labels: (n,) its cluster.
        n_clusters: K.
        sample: members that are averaged, drawn by seed; None for all.
        seed: of the draw.

    Source: InfluenceSpace, with the sign of Koh and Liang: higher is better.
    """
    rng = np.random.default_rng([seed, 3])
    mean, error = np.zeros(n_clusters), np.zeros(n_clusters)
    size = np.bincount(labels, minlength=n_clusters)
    order = np.argsort(labels, kind="stable")
    members = np.split(utility[order], np.cumsum(size)[:-1])
    for number, own in enumerate(members[:n_clusters]):
        seen = own if sample is None or sample >= len(own) else rng.choice(own, sample, False)
        if len(seen):
            mean[number] = seen.mean()
            error[number] = seen.std(ddof=1) / np.sqrt(len(seen)) if len(seen) > 1 else np.inf
    return ClusterUtility(mean, error, size)


def categories(
    found: ClusterUtility, harmful: float, beneficial: float, z: float, *, absolute: bool = False
) -> np.ndarray:
    r"""Sort clusters into harmful (-1), neutral (0) and beneficial (1), (K,).

    Harmful is :math:`U_k + z s_k < -t_h`, beneficial :math:`U_k - z s_k > t_b`; both are strict.

    Args:
        found: utilities and their standard errors.
        harmful: t_h, in units of the median of :math:`|U_k|`.
        beneficial: t_b, likewise.
        z: standard errors that a cluster has to be off.
        absolute: take the thresholds as they are.
    """
    known = found.size > 0
    unit = 1.0 if absolute or not known.any() else float(np.median(np.abs(found.mean[known])))
    off = z * found.error if z else np.zeros_like(found.error)
    below = found.mean + off < -harmful * unit
    above = found.mean - off > beneficial * unit
    return np.where(below, -1, np.where(above, 1, 0))


def scaled_from_zero(utility: np.ndarray) -> np.ndarray:
    """Scale utilities (K,) to 0 ... 1 between min(0, smallest) and max(0, largest); 0 where all are 0.

    Source: stage 3 of InfluenceSpace as published.

    >>> scaled_from_zero(np.array([1.0, 4.0]))
    array([0.25, 1.  ])
    """
    low, high = min(0.0, utility.min(initial=0.0)), max(0.0, utility.max(initial=0.0))
    span = high - low
    return (utility - low) / span if span > 0 else np.zeros_like(utility, dtype=np.float64)


def knapsack(utility: np.ndarray, size: np.ndarray, budget: float, most: float) -> np.ndarray:
    r"""Maximize :math:`\sum_k w_k n_k U_k` under :math:`\sum_k w_k n_k \le B`, :math:`0 \le w_k \le w_{max}`.

    Clusters of positive utility in descending order get the largest weight until the budget is spent;
    one gets the rest. Exact.

    Args:
        utility: (K,) U.
        size: (K,) n.
        budget: B.
        most: largest weight.

    Returns:
        (K,) weights.
    """
    weights, left = np.zeros(len(utility)), float(budget)
    for number in np.argsort(-utility, kind="stable"):
        if utility[number] > 0 and size[number] > 0:
            weights[number] = min(most, left / size[number])
            if weights[number] < most:
                break  # the budget is spent; what is left of it by rounding may be negative
            left -= most * size[number]
    return np.maximum(weights, 0.0)
