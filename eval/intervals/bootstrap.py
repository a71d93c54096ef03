"""How far the items of a test leave scores open: percentile bootstrap over what was asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
RESAMPLES = 5000
BLOCK = 1 << 20
"""Counts drawn at a time."""

Floats = NDArray[np.float64]


class Credits(NamedTuple):
    r"""What each of the N items of a test is worth, and how they hang together.

    .. math:: \theta = \frac{1}{G} \sum_{g=1}^{G}
        \frac{\sum_{i \in g} w_i x_i}{\sum_{i \in g} w_i}

    with :math:`x_i` the credit of an item and :math:`w_i` its weight.

    Attributes:
        values: (N,) credits.
        groups: (N,) names; each group weighs the same whatever its size. None: all are one.
        weights: (N,) of the items in their group; a group without weight counts 0. None: all 1.
        units: (N,) names; the items of a unit, an image say, are drawn together. None: each item
            is a unit.
    """

    values: Sequence[float]
    groups: Sequence[str] | None = None
    weights: Sequence[float] | None = None
    units: Sequence[str] | None = None

    def score(self) -> float:
        """Score of the items as they are, in the unit of the values."""
        group = _codes(self.groups or [""] * len(self.values))[0]
        credit, weight = (np.bincount(group, column).astype(float) for column in self.sums().T)
        return float(_means(credit, weight).mean())

    def sums(self) -> Floats:
        """Weighted credit and weight of each item, (N, 2)."""
        weights = np.ones(len(self.values)) if self.weights is None else np.asarray(self.weights)
        return np.stack([weights * np.asarray(self.values, dtype=float), weights], axis=1)


def resampled_scores(
    *models: Credits, seed: int | Sequence[int] = 0, resamples: int = RESAMPLES
) -> Floats:
    r"""Scores on other items of the same kind, the same ones for each of K models.

    Units are drawn with replacement, as many as there are, each in the group of its first item;
    the score is computed again with every item counted as often as its unit was drawn. It depends
    only on how often each distinct unit was drawn, so that those counts are drawn (multinomial):
    the same distribution for less work.

    Args:
        models: their credits, for the same items in the same groups and units.
        seed: of the draws.
        resamples: how often R the score is computed again.

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
    """Ends of the middle 95 percent of what was drawn, four digits after the point; NaN is none."""
    tail = (1 - CONFIDENCE) / 2
    return [round(float(end), 4) for end in np.nanquantile(draws, [tail, 1 - tail])]


def _draws(rows: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Sums (R, D) of as many rows as there are, (U, D), drawn with replacement."""
    distinct, counts = np.unique(rows, axis=0, return_counts=True)
    found = np.empty((resamples, rows.shape[1]))
    block = max(1, BLOCK // len(distinct))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = rng.multinomial(len(rows), counts / len(rows), size)  # (size, distinct)
        found[start : start + size] = drawn @ distinct
    return found


def _means(credit: Floats, weight: Floats) -> Floats:
    """Credit over weight; 0 where there is no weight."""
    return np.divide(credit, weight, out=np.zeros_like(credit), where=weight > 0)


def _codes(names: Iterable[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Number of each name, (N,), and the place where each number is first."""
    _, first, codes = np.unique(list(names), return_index=True, return_inverse=True)
    return codes, first
