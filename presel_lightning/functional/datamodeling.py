"""Linear datamodeling score: how well summed scores predict what a training subset is worth."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

CONFIDENCE = 0.95
RESAMPLES = 2000


class Datamodeling(NamedTuple):
    """Result of `datamodeling_score`."""

    score: float
    """Rank correlation, -1 to 1; NaN where either side is constant."""
    low: float
    """Lower end of its 95 % interval."""
    high: float
    """Upper end."""


def datamodeling_score(
    scores: np.ndarray, subsets: np.ndarray, outcome: np.ndarray, seed: int = 0
) -> Datamodeling:
    r"""Compute Spearman's rank correlation of :math:`\sum_{i \in S_j} s_i` and the outcome of S_j.

    The interval is a percentile bootstrap over subsets: that of other draws of the subsets, with
    one training seed each.

    Args:
        scores: (N,) s, higher = better.
        subsets: (M, n) members of each subset.
        outcome: (M,) what a model that was trained on the subset reaches, higher = better.
        seed: of the bootstrap.

    Source: Park et al., "TRAK: Attributing Model Behavior at Scale", ICML 2023, Definition 2.3, for a
    single outcome.
    """
    predicted = scores[subsets].sum(axis=1)
    rng = np.random.default_rng([seed, 8])
    drawn = rng.integers(0, len(outcome), (RESAMPLES, len(outcome)))
    resampled = rank_correlation(predicted[drawn], outcome[drawn])
    resampled = resampled[np.isfinite(resampled)]  # a draw of one subset alone has none
    tails = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, [tails, 1 - tails]) if len(resampled) else (np.nan, np.nan)
    return Datamodeling(float(rank_correlation(predicted, outcome)), float(low), float(high))


def rank_correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Compute Spearman's rank correlation along the last axis; NaN where either side is constant."""
    ranks = [rankdata(values, axis=-1) for values in (one, other)]
    one, other = (each - each.mean(axis=-1, keepdims=True) for each in ranks)
    norms = np.sqrt((one**2).sum(axis=-1) * (other**2).sum(axis=-1))
    product = (one * other).sum(axis=-1)
    correlation: np.ndarray = np.divide(
        product, norms, out=np.full_like(product, np.nan), where=norms > 0
    )
    return correlation
