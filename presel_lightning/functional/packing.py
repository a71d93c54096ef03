"""Sequences packed into rows of a token capacity."""

from __future__ import annotations

import numpy as np


def pack_sequences(lengths: np.ndarray, capacity: int) -> list[np.ndarray]:
    """Pack sequences into as few rows as first-fit-decreasing does.

    The longest sequence first (of equal ones the first), each goes to the first row that has room
    for it. A tree over the rows holds the largest room below each node, so that a row is found in
    O(log n), and all of them in O(n log n).

    The first sequence of a row fits into no earlier one, so that the rows one after the other,
    packed again by `next_fit`, give the same rows.

    Args:
        lengths: (n,) tokens of each sequence, 1 or more.
        capacity: tokens of a row; a longer sequence gets a row of its own.

    Returns:
        Places of the sequences of each row.

    Raises:
        ValueError: a sequence or the capacity is less than 1.

    Source: Johnson, "Near-optimal bin packing algorithms", 1973: at most 11/9 OPT + 6/9 rows.

    >>> [row.tolist() for row in pack_sequences(np.array([3, 6, 4, 7]), 10)]
    [[3, 0], [1, 2]]
    """
    lengths = np.asarray(lengths)
    if capacity < 1 or (lengths < 1).any():
        raise ValueError("capacity and lengths must be 1 or more")
    order = np.argsort(-lengths, kind="stable")
    n_leaves = 1 << max(0, len(lengths) - 1).bit_length()
    room = [int(max(capacity, lengths.max(initial=0)))] * (2 * n_leaves)
    rows: list[list[int]] = []
    for place in order.tolist():
        length = int(lengths[place])
        row = _first_with_room(room, length, n_leaves)
        if row == len(rows):
            rows.append([])
            room[n_leaves + row] = max(capacity, length)
        rows[row].append(place)
        _take(room, n_leaves + row, length)
    return [np.array(row, dtype=np.int64) for row in rows]


def _first_with_room(room: list[int], length: int, n_leaves: int) -> int:
    """First row with room for a sequence; unopened rows come last."""
    node = 1
    while node < n_leaves:
        node = 2 * node + (room[2 * node] < length)
    return node - n_leaves


def _take(room: list[int], node: int, length: int) -> None:
    """Take room from a row, and correct the largest room of the nodes above it."""
    room[node] -= length
    while node > 1:
        node //= 2
        room[node] = max(room[2 * node], room[2 * node + 1])


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
