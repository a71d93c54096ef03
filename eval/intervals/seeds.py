"""Statistics over seeds: means, paired differences with intervals, multiple tests."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import NamedTuple

from scipy import stats

from presel_lightning.eval.intervals.bootstrap import CONFIDENCE

ROUNDING = 1e-9
"""Relative deviation that counts as rounding error."""


class Difference(NamedTuple):
    """Mean of paired differences, its 95 % confidence interval, and the p-value of no difference."""

    mean: float
    low: float | None
    high: float | None
    p: float | None
    n: int


def mean_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Compute mean and sample standard deviation (None for a single value)."""
    return fmean(values), stdev(values) if len(values) > 1 else None


def paired_difference(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    r"""Compare two methods on the same seeds.

    .. math:: \bar d \pm t_{0.975, n-1} \, s_d / \sqrt n

    with :math:`d_i` the difference on seed i. Interval and p-value are None for fewer than two
    seeds, and where all differences are equal: scores are counts of correct answers, so this
    happens by chance with few seeds and does not imply zero variance.

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
    test = stats.ttest_rel(ours, theirs)
    low, high = test.confidence_interval(CONFIDENCE)
    return Difference(mean, float(low), float(high), float(test.pvalue), n)


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
    """Compute the Jaccard index: shared samples over all samples of two selections."""
    return len(one & other) / len(one | other) if one | other else 1.0
