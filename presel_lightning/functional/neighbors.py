"""Nearest neighbors of every row, block by block."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

_ROWS, _COLUMNS = 1024, 8192
"""Rows and columns of one block of similarities; memory is bounded by them."""


def nearest_neighbors(features: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the k other rows with the highest cosine similarity to each row.

    Exact; O(N^2 D), and memory beside the features for 1024 x 8192 similarities at a time.

    Args:
        features: (N, D) of any float dtype; rows need not be normalized.
        k: neighbors of a row; N - 1 where there are fewer.

    Returns:
        (N, k) row numbers, nearest first, and (N, k) cosines, float32.

    >>> rows, cosines = nearest_neighbors(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), 1)
    >>> rows[:2, 0].tolist(), cosines[:2, 0].tolist()
    ([1, 0], [1.0, 1.0])
    """
    k = min(k, len(features) - 1)
    if k < 1:
        return torch.zeros(len(features), 0, dtype=torch.long), torch.zeros(len(features), 0)
    found = [_of_block(features, start, k) for start in range(0, len(features), _ROWS)]
    return torch.cat([rows for rows, _ in found]), torch.cat([near for _, near in found])


def _of_block(features: Tensor, start: int, k: int) -> tuple[Tensor, Tensor]:
    """Merge the nearest of one block of columns after another."""
    block = normalize(features[start : start + _ROWS].float(), dim=1)
    best = torch.full((len(block), 0), 0.0)
    rows = torch.zeros(len(block), 0, dtype=torch.long)
    for first in range(0, len(features), _COLUMNS):
        columns = normalize(features[first : first + _COLUMNS].float(), dim=1)
        near = block @ columns.T  # (b, columns)
        near.diagonal(start - first).fill_(-torch.inf)  # a row is no neighbor of itself
        values, places = near.topk(min(k, near.shape[1]), dim=1)
        best, rows = torch.cat([best, values], dim=1), torch.cat([rows, places + first], dim=1)
        best, order = best.topk(min(k, best.shape[1]), dim=1)
        rows = rows.gather(1, order)
    return rows, best
