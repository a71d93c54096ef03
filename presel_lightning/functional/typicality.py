"""Typicality of an image in its cluster, and the most typical images of a cluster."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_EPSILON = 1e-5
# rows and columns of one distance block; memory is bounded by them, whatever the cluster's size
_ROWS, _COLUMNS = 512, 4096


class Typical(NamedTuple):
    """Result of `typical_first`."""

    rows: Tensor
    """(count,) int64 row numbers, in the order in which they were picked."""
    typicality: Tensor
    """(n,) float64: of a picked row when it was picked, of the others after the last pick."""


def typicality(features: Tensor, k: int = 20) -> Tensor:
    r"""Compute the inverse mean distance of each row to its nearest neighbors.

    .. math:: T(i) = \Bigl(\frac{1}{k'} \sum_{j \in \mathrm{kNN}(i)} \lVert x_i - x_j \rVert_2
        + 10^{-5}\Bigr)^{-1}, \quad k' = \min(k, \lfloor n / 2 \rfloor)

    over the other rows; 0 where there is no other row. Computed in float64 from products, squared
    distances rounded to 1e-12, so that copies are at distance 0.

    Args:
        features: (n, D) of a float dtype, the rows of one cluster, of about unit length.
        k: Number of neighbors.

    Returns:
        (n,) float64.

    Source: TypiClust (Hacohen et al., ICML 2022), Eq. 4.

    >>> typicality(torch.tensor([[0.0], [0.5], [3.0]])).round(decimals=3)
    tensor([2.0000, 2.0000, 0.4000], dtype=torch.float64)
    """
    return typical_first(features, 0, k).typicality


def typical_first(features: Tensor, count: int, k: int = 20) -> Typical:
    """Pick and remove the most typical row of a cluster, ``count`` times.

    A pick is not a neighbor of the rows that remain. Only rows that had it among their nearest are
    updated, which costs O(k n D) per pick. Typicalities whose mean distances are equal to 1e-10
    tie, and a tie goes to the earlier row.

    Args:
        features: (n, D), the rows of one cluster.
        count: Rows to pick, at most n.
        k: Neighbors of `typicality`.

    Returns:
        `Typical`: picks and typicality.

    >>> typical_first(torch.tensor([[0.0], [0.5], [3.0]]), 2, k=1).rows
    tensor([0, 1])
    """
    vectors = features.double()
    norms = vectors.square().sum(dim=1)  # (n,)
    alive = torch.ones(len(vectors), dtype=torch.bool)
    mean = torch.zeros(len(vectors), dtype=torch.float64)
    radius = torch.zeros_like(mean)  # of the k-th neighbor, squared
    picks: list[int] = []
    left, width = len(vectors), -1
    stale = alive.nonzero()[:, 0]
    while left:
        if width != min(k, left // 2):
            width = min(k, left // 2)
            stale = alive.nonzero()[:, 0]
        if width and len(stale):
            nearest = _nearest(vectors, norms, stale, alive, width)  # (R, k')
            mean[stale], radius[stale] = nearest.sqrt().mean(dim=1), nearest[:, -1]
        if len(picks) == count:
            break
        pick = int(mean.round(decimals=10).masked_fill(~alive, torch.inf).numpy().argmin())
        picks.append(pick)
        alive[pick] = False
        left -= 1
        # one row against all: the small slack includes rows that rounding puts at the radius
        squared = _squared(vectors, norms, torch.tensor([pick]), slice(None))[0]
        stale = (alive & (squared <= radius + 1e-11)).nonzero()[:, 0]
    return Typical(torch.tensor(picks, dtype=torch.int64), _inverse(mean, len(vectors)))


def _inverse(mean: Tensor, n: int) -> Tensor:
    return 1 / (mean + _EPSILON) if n > 1 else torch.zeros_like(mean)


def _squared(vectors: Tensor, norms: Tensor, rows: Tensor, columns: slice) -> Tensor:
    """Compute squared distances of some rows to a range of rows, (R, columns)."""
    product = vectors[rows] @ vectors[columns].T
    return (norms[rows, None] + norms[columns] - 2 * product).clamp_(min=0).round_(decimals=12)


def _nearest(vectors: Tensor, norms: Tensor, rows: Tensor, alive: Tensor, k: int) -> Tensor:
    """Compute squared distances of some rows to the k nearest other rows alive, ascending."""
    found = []
    for part in rows.split(_ROWS):
        kept = torch.empty(len(part), 0, dtype=torch.float64)
        for first in range(0, len(vectors), _COLUMNS):
            columns = torch.arange(first, min(first + _COLUMNS, len(vectors)))
            squared = _squared(vectors, norms, part, slice(first, first + _COLUMNS))
            squared.masked_fill_(~alive[columns] | (columns == part[:, None]), torch.inf)
            kept = torch.cat([kept, squared], dim=1)
            kept = kept.topk(min(k, kept.shape[1]), dim=1, largest=False).values
        found.append(kept)
    return torch.cat(found)
