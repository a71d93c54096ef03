"""First-fit-decreasing bin packing."""

from __future__ import annotations

import numpy as np


def first_fit_decreasing(lengths: np.ndarray, capacity: int) -> list[np.ndarray]:
    """Put the longest sequence first into the first row that has room for it.

    Of equal lengths the first comes first. A tree over the rows holds the largest room below each
    node, so that a row is found in O(log n), and all of them in O(n log n).

    Args:
        lengths: (n,) tokens of each sequence.
        capacity: tokens of a row; a longer sequence gets a row of its own.

    Returns:
        Places of the sequences of each row.

    Source: Johnson, "Near-optimal bin packing algorithms", 1973: at most 11/9 OPT + 6/9 rows.
    """
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
