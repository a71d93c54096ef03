"""What repeated runs say: means, paired differences with their intervals, many tests at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 5000
BLOCK = 1 << 20
"""Counts drawn at a time."""
ROUNDING = 1e-9
"""Deviation, as a part of the scores, that is rounding."""


class Difference(NamedTuple):
    """Mean of paired differences, its 95 % confidence interval, and the p-value of no difference."""

    mean: float
    low: float | None
    high: float | None
    p: float | None
    n: int


def mean_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and standard deviation over n - 1 (None for a single value)."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))


def paired_difference(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    r"""Compare two methods on the same seeds.

    .. math:: \bar d \pm t_{0.975, n-1} \, s_d / \sqrt n

    with :math:`d_i` the difference on seed i. Interval and p-value are None for fewer than two
    seeds, and where all differences are equal: scores are counts of right answers, so that this
    happens by chance with few seeds, and says nothing of how another seed would come out.

    Args:
        ours: (n,) scores, a seed each.
        theirs: (n,) scores of the same seeds.
    """
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    mean, deviation = mean_sd(differences)
    n = len(differences)
    largest = max(map(abs, [*ours, *theirs]))
    if deviation is None or deviation <= ROUNDING * largest:
        return Difference(mean, None, None, None, n)
    error = deviation / math.sqrt(n)
    reach = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1)) * error
    p = 2 * float(stats.t.sf(abs(mean) / error, n - 1))
    return Difference(mean, mean - reach, mean + reach, p, n)


def bootstrap_interval(
    values: Sequence[float],
    groups: Sequence[str] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    r"""Tell how far the items of a test leave its score open: a percentile bootstrap, 95 %.

    .. math:: \theta = \frac{1}{G} \sum_{g=1}^{G} \bar x_g

    is computed again and again on items that are drawn with replacement inside each group, and the
    2.5 and 97.5 percent quantiles are the interval. For a paired difference of two models, give
    the differences item by item. A resampled mean depends only on how often each distinct value was
    drawn, so that those counts are drawn (multinomial): the same distribution for less work.

    Args:
        values: (n,) of each item.
        groups: (n,) names; each group weighs the same whatever its size. None: all are one.
        seed: of the draws.
        resamples: how often theta is computed again.

    Returns:
        Lower and upper end, in the unit of the values.

    Raises:
        ValueError: there is no value.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13.
    """
    if not len(values):
        raise ValueError("Expected at least one value")
    rng = np.random.default_rng(seed)
    of_group = (
        np.zeros(len(values), dtype=int)
        if groups is None
        else np.unique(groups, return_inverse=True)[1]
    )
    found = np.zeros(resamples)  # (R,)
    parts = [np.asarray(values, dtype=float)[of_group == g] for g in range(of_group.max() + 1)]
    for part in parts:
        distinct, counts = np.unique(part, return_counts=True)  # (U,)
        block = max(1, BLOCK // len(distinct))
        for start in range(0, resamples, block):
            size = min(block, resamples - start)
            drawn = rng.multinomial(len(part), counts / len(part), size)  # (size, U)
            found[start : start + size] += drawn @ distinct / len(part)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(found / len(parts), [tail, 1 - tail])
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    r"""Adjust p-values of several tests by Holm's step-down rule.

    .. math:: \tilde p_{(i)} = \max_{j \le i} \min(1, (m - j + 1) \, p_{(j)})

    Returns:
        The adjusted values in the order given.
    """
    adjusted = [0.0] * len(p_values)
    worst = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        worst = max(worst, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = worst
    return adjusted


def overlap(one: set[str], other: set[str]) -> float:
    """Jaccard index: shared samples over all samples of two selections."""
    return len(one & other) / len(one | other) if one | other else 1.0
