"""Pick the highest value again and again, each time lowering the values of its neighbors."""

from __future__ import annotations

import heapq

import numpy as np


def pick_and_lower(
    values: np.ndarray, neighbors: np.ndarray, factors: np.ndarray, picks: int
) -> np.ndarray:
    r"""Pick rows by value; each pick i lowers its neighbors: :math:`x_j \leftarrow x_j - f_{ij} x_i`.

    With values and factors of 0 or more a value never rises while it is positive, so that a heap
    finds the highest in logarithmic time: an entry whose value has been lowered since is put back.
    A pick whose own value has fallen to 0 or below lowers nothing.

    Args:
        values: (N,) not negative.
        neighbors: (N, k) row numbers.
        factors: (N, k) not negative.
        picks: number of rows, at most N.

    Returns:
        (picks,) row numbers in the order of the picks; ties go to the lower row.

    >>> pick_and_lower(np.array([3.0, 2.9, 1.0]), np.array([[1], [0], [0]]), np.full((3, 1), 0.9), 2)
    array([0, 2])
    """
    current = values.astype(np.float64, copy=True)
    heap = [(-value, row) for row, value in enumerate(current.tolist())]
    heapq.heapify(heap)
    taken = np.zeros(len(current), dtype=bool)
    order: list[int] = []
    while len(order) < picks:
        value, row = heapq.heappop(heap)
        if -value > current[row]:
            heapq.heappush(heap, (-float(current[row]), row))
            continue
        order.append(row)
        taken[row] = True
        if current[row] > 0:
            others = neighbors[row]
            free = ~taken[others]
            current[others[free]] -= factors[row][free] * current[row]
    return np.array(order, dtype=np.int64)
