"""Leverage scores of rows that are read block by block."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

BLOCK = 4096
"""Rows that are held at a time."""


def leverage_scores(rows: np.ndarray, places: np.ndarray, energy: float = 0.9) -> np.ndarray:
    r"""Compute :math:`\lVert U_k[i] \rVert^2`, with U the left singular vectors of the rows.

    Columns are centered and divided by their standard deviation, rows then get length 1. k is the
    smallest number of singular values that hold a fraction of the energy (the sum of their squares).
    The right singular vectors are the eigenvectors of the D x D Gram matrix, in float64, so that one
    block of rows is held beside it.

    Args:
        rows: (V, D) of any float dtype, memory-mapped or not.
        places: (N,) which of them.
        energy: fraction of the energy.

    Returns:
        (N,) scores between 0 and 1; their sum is k.
    """
    total, squares = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
    for block in _blocks(rows, places):
        total += block.sum(axis=0)
    mean = total / max(1, len(places))
    for block in _blocks(rows, places):
        squares += ((block - mean) ** 2).sum(axis=0)
    deviation = np.sqrt(squares / max(1, len(places)))
    deviation[deviation <= 1e-12 * max(1.0, float(np.abs(mean).max(initial=0.0)))] = np.inf
    gram = np.zeros((rows.shape[1], rows.shape[1]))
    for block in _blocks(rows, places):
        unit = _unit((block - mean) / deviation)
        gram += unit.T @ unit
    values, vectors = np.linalg.eigh(gram)
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    if values.sum() == 0:
        return np.zeros(len(places))
    share = np.cumsum(values) / values.sum()
    k = int(np.searchsorted(share, energy - 1e-9)) + 1
    scale = vectors[:, :k] / np.sqrt(values[:k])
    parts = [
        ((_unit((block - mean) / deviation) @ scale) ** 2).sum(axis=1)
        for block in _blocks(rows, places)
    ]
    scores: np.ndarray = np.concatenate(parts)
    return scores


def _blocks(rows: np.ndarray, places: np.ndarray) -> Iterator[np.ndarray]:
    """Blocks of rows in float64."""
    for start in range(0, len(places), BLOCK):
        yield np.asarray(rows[places[start : start + BLOCK]], dtype=np.float64)


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1, or 0."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: np.ndarray = rows / np.where(length > 0, length, 1.0)
    return unit
