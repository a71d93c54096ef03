"""Uncertainty of scores over test items, by percentile bootstrap."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
RESAMPLES = 5000
BLOCK = 1 << 20
"""Multinomial counts sampled at a time."""

Floats = NDArray[np.float64]


class Credits(NamedTuple):
    r"""Credits of the N items of a test, with their groups, weights and units.

    .. math:: \theta = \frac{1}{G} \sum_{g=1}^{G}
        \frac{\sum_{i \in g} w_i x_i}{\sum_{i \in g} w_i}

    with :math:`x_i` the credit of an item and :math:`w_i` its weight.

    Attributes:
        values: (N,) credits.
        groups: (N,) names; each group has the same weight whatever its size. None: one group.
        weights: (N,) weight of each item in its group; a group without weight counts 0. None: 1.
        units: (N,) names; the items of a unit, such as an image, are resampled together. None:
            each item is a unit.
    """

    values: Sequence[float]
    groups: Sequence[str] | None = None
    weights: Sequence[float] | None = None
    units: Sequence[str] | None = None

    def score(self) -> float:
        """Compute the score of the items, in the unit of the values."""
        group = _codes(self.groups or [""] * len(self.values))[0]
        credit, weight = (np.bincount(group, column).astype(float) for column in self.sums().T)
        return float(_means(credit, weight).mean())

    def sums(self) -> Floats:
        """Return weighted credit and weight of each item, (N, 2)."""
        weights = np.ones(len(self.values)) if self.weights is None else np.asarray(self.weights)
        return np.stack([weights * np.asarray(self.values, dtype=float), weights], axis=1)


def resampled_scores(
    *models: Credits, seed: int | Sequence[int] = 0, resamples: int = RESAMPLES
) -> Floats:
    r"""Compute bootstrap scores of K models on the same resampled items.

    Units are resampled with replacement, stratified by the group of their first item; every item
    counts as often as its unit is sampled. The score depends only on these counts, so multinomial
    counts of the distinct units are sampled: the same distribution at less cost.

    Args:
        models: credits of each model, for the same items in the same groups and units.
        seed: seed of the bootstrap.
        resamples: number R of resamples.

    Returns:
        (R, K), in the unit of the values.

    Raises:
        ValueError: there is no item.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, chapters 8 and 13.
    """
    values, groups, _, units = models[0]
    if not len(values):
        raise ValueError("Expected at least one value")
    rng = np.random.default_rng(seed)
    terms = np.concatenate([model.sums() for model in models], axis=1)  # (N, 2K)
    group = _codes(groups or [""] * len(values))[0]
    unit, first = _codes(range(len(values)) if units is None else units)
    drawn_in = group[first][unit]  # (N,)
    found = np.zeros((resamples, group.max() + 1, terms.shape[1]))  # (R, G, 2K)
    for stratum in np.unique(drawn_in):
        here = drawn_in == stratum
        held, column = np.unique(group[here], return_inverse=True)
        members, row = np.unique(unit[here], return_inverse=True)
        sums = np.zeros((len(members), len(held), terms.shape[1]))  # (units, groups, 2K)
        np.add.at(sums, (row, column), terms[here])
        drawn = _draws(sums.reshape(len(members), -1), resamples, rng)
        found[:, held] += drawn.reshape(resamples, *sums.shape[1:])
    scores: Floats = _means(found[..., 0::2], found[..., 1::2]).mean(axis=1)  # of (R, G, K)
    return scores


def percentile_interval(draws: Floats) -> list[float]:
    """Compute the 95 % percentile interval, rounded to four decimals; NaN is ignored."""
    tail = (1 - CONFIDENCE) / 2
    return [round(float(end), 4) for end in np.nanquantile(draws, [tail, 1 - tail])]


def _draws(rows: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Sum U rows resampled with replacement from (U, D), R times: (R, D)."""
    distinct, counts = np.unique(rows, axis=0, return_counts=True)
    found = np.empty((resamples, rows.shape[1]))
    block = max(1, BLOCK // len(distinct))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = rng.multinomial(len(rows), counts / len(rows), size)  # (size, distinct)
        found[start : start + size] = drawn @ distinct
    return found


def _means(credit: Floats, weight: Floats) -> Floats:
    """Divide credit by weight; 0 where there is no weight."""
    return np.divide(credit, weight, out=np.zeros_like(credit), where=weight > 0)


def _codes(names: Iterable[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Encode names as integers, (N,), and return the first index of each."""
    _, first, codes = np.unique(list(names), return_index=True, return_inverse=True)
    return codes, first
