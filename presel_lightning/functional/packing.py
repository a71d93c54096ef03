"""Sequences packed into rows of a token capacity."""

from __future__ import annotations

import numpy as np

from presel_lightning.functional.first_fit import first_fit_decreasing
from presel_lightning.functional.row_completion import complete_rows


def pack_sequences(lengths: np.ndarray, capacity: int) -> list[np.ndarray]:
    """Pack sequences into few rows: the better of first-fit-decreasing and `complete_rows`.

    The first sequence of a row fits into no earlier one, so that the rows one after the other,
    packed again by `next_fit`, give the same rows.

    Args:
        lengths: (n,) tokens of each sequence, 1 or more.
        capacity: tokens of a row; a longer sequence gets a row of its own.

    Returns:
        Places of the sequences of each row; never more rows than first-fit-decreasing has.

    Raises:
        ValueError: a sequence or the capacity is less than 1.

    >>> [row.tolist() for row in pack_sequences(np.array([3, 6, 4, 7]), 10)]
    [[3, 0], [1, 2]]
    """
    lengths = np.asarray(lengths)
    if capacity < 1 or (lengths < 1).any():
        raise ValueError("capacity and lengths must be 1 or more")
    found = (pack(lengths, capacity) for pack in (first_fit_decreasing, complete_rows))
    return min(found, key=len)


def next_fit(lengths: np.ndarray, capacity: int) -> np.ndarray:
    """Fill rows in the order of the sequences, and start the next where one does not fit.

    Args:
        lengths: (n,) tokens of each sequence.
        capacity: tokens of a row; a longer sequence gets a row of its own.

    Returns:
        (n,) number of the row of each sequence.

    >>> next_fit(np.array([7, 3, 6, 4]), 10).tolist()
    [0, 0, 1, 1]
    """
    rows = np.zeros(len(lengths), dtype=np.int64)
    row = filled = 0
    for place, length in enumerate(np.asarray(lengths).tolist()):
        if filled and filled + length > capacity:
            row, filled = row + 1, 0
        rows[place] = row
        filled += length
    return rows
