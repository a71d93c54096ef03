"""Bin packing row by row, the last two sequences of a row chosen together."""

from __future__ import annotations

import numpy as np


def complete_rows(lengths: np.ndarray, capacity: int) -> list[np.ndarray]:
    """Fill one row after the other, as full as its last two sequences can make it.

    A row takes the longest sequence that fits as long as three more fit; then the pair, or the single
    sequence, that leaves the least room. Where first-fit-decreasing leaves long runs of equal
    lengths for its last rows, this one mixes them.

    Args:
        lengths: (n,) tokens of each sequence.
        capacity: tokens of a row; a longer sequence gets a row of its own.

    Returns:
        Places of the sequences of each row.

    Complexity: O(n log n) and, for each row, O(D log D) for D different lengths.
    """
    left = _Left(lengths)
    rows: list[np.ndarray] = []
    while len(left.sizes):
        room = max(capacity, int(left.sizes[-1]))
        row: list[int] = []
        while (index := left.longest(room)) >= 0:
            if row and not left.three_fit(room):
                row += [left.take(each) for each in left.fullest(room)]
                break
            room -= int(left.sizes[index])
            row.append(left.take(index))
        rows.append(np.array(row, dtype=np.int64))
    return rows


class _Left:
    """Sequences that are in no row yet, by their length.

    Args:
        lengths: (n,) tokens of each sequence.
    """

    def __init__(self, lengths: np.ndarray) -> None:
        self.places = np.argsort(lengths, kind="stable")
        self.sizes, self.next, self.counts = np.unique(
            lengths[self.places], return_index=True, return_counts=True
        )

    def longest(self, room: int) -> int:
        """Index of the longest size that fits, -1 where none does."""
        return int(np.searchsorted(self.sizes, room, "right")) - 1

    def take(self, index: int) -> int:
        """Take a sequence of a size out, and return its place."""
        place = int(self.places[self.next[index]])
        self.next[index] += 1
        self.counts[index] -= 1
        if not self.counts[index]:
            self.sizes, self.next, self.counts = (
                np.delete(values, index) for values in (self.sizes, self.next, self.counts)
            )
        return place

    def three_fit(self, room: int) -> bool:
        """Whether three sequences fit."""
        shortest = np.repeat(self.sizes[:3], np.minimum(self.counts[:3], 3))[:3]
        return len(shortest) == 3 and int(shortest.sum()) <= room

    def fullest(self, room: int) -> list[int]:
        """Indices of the pair, or the single size, that leaves the least room; the longer one first."""
        sizes = self.sizes[: self.longest(room) + 1]
        own = np.arange(len(sizes))
        partner = np.searchsorted(sizes, room - sizes, "right") - 1
        partner -= (partner == own) & (self.counts[: len(sizes)] < 2)
        sums = np.where(partner >= 0, sizes + sizes[partner], 0)
        best = int(sums.argmax())
        if sums[best] > sizes[-1]:
            return sorted((best, int(partner[best])), reverse=True)
        return [len(sizes) - 1]
