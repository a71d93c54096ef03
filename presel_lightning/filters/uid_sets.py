"""Sets of uids in which a uid may be several times; united and intersected in bounded memory.

A set is read in ranges of the first half of its uids, so that a range holds few of them. The union
has a uid as often as the side that has it more often, the intersection as often as the other side.
"""

from __future__ import annotations

import mmap
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from presel_lightning.errors import UserError
from presel_lightning.filters.uid_files import open_uids, writing_uids
from presel_lightning.filters.uids import UID, are_sorted, counted, order_of
from presel_lightning.run.arrays import advise

END = 1 << 64
"""One more than the largest first half."""
ROWS = 1 << 17
"""Uids that are held at a time, unless more of them have the same first half."""

Counted = tuple[np.ndarray, np.ndarray]
"""Sorted distinct uids, and how often each is in a set."""


@dataclass(frozen=True)
class Runs:
    """The set of all uids of some sorted arrays."""

    arrays: Sequence[np.ndarray]

    def size(self, low: int, high: int) -> int:
        """Rows to read for the uids whose first half is in [low, high)."""
        return sum(stop - start for start, stop in self.slices(low, high))

    def rows(self, low: int, high: int) -> Counted:
        """The uids whose first half is in [low, high)."""
        return counted(self.repeated(low, high))

    def repeated(self, low: int, high: int) -> np.ndarray:
        """The same, each as often as it is there."""
        slices = self.slices(low, high)
        parts = [a[slice(*s)] for a, s in zip(self.arrays, slices, strict=True) if s[0] < s[1]]
        joined = np.concatenate(parts) if parts else np.empty(0, UID)
        return joined[order_of(joined)] if len(parts) > 1 else joined

    def forget(self) -> None:
        """Give back the memory of what was read."""
        for array in self.arrays:
            advise(array, mmap.MADV_DONTNEED)

    def slices(self, low: int, high: int) -> list[tuple[int, int]]:
        """Rows of each array with the uids whose first half is in [low, high)."""
        return [(_first(array, low), _first(array, high)) for array in self.arrays]


def _first(array: np.ndarray, bound: int) -> int:
    if bound in (0, END):
        return len(array) if bound else 0
    return bisect_left(array["f0"], np.uint64(bound))


@dataclass(frozen=True)
class Pair:
    """Union or intersection of two sets."""

    left: UidSet
    right: UidSet
    is_union: bool

    def size(self, low: int, high: int) -> int:
        """Rows to read for the uids whose first half is in [low, high)."""
        return self.left.size(low, high) + self.right.size(low, high)

    def repeated(self, low: int, high: int) -> np.ndarray:
        """Each as often as it is there."""
        return np.repeat(*self.rows(low, high))

    def forget(self) -> None:
        """Give back the memory of what was read."""
        self.left.forget()
        self.right.forget()

    def rows(self, low: int, high: int) -> Counted:
        """The uids whose first half is in [low, high)."""
        sides = self.left.rows(low, high), self.right.rows(low, high)
        uids, counts = (np.concatenate(parts) for parts in zip(*sides, strict=True))
        order = order_of(uids)
        distinct, on = counted(uids[order])
        if not len(distinct):
            return distinct, on
        starts = np.cumsum(on) - on
        reduce = np.maximum if self.is_union else np.minimum
        found = reduce.reduceat(counts[order], starts)
        if self.is_union:
            return distinct, found
        return distinct[on == 2], found[on == 2]


UidSet = Runs | Pair


def ranges(uids: UidSet, rows: int = ROWS) -> Iterator[tuple[int, int]]:
    """Ranges [low, high) of first halves, ascending, that cover a set and hold few rows each."""
    waiting = [(0, END)]
    while waiting:
        low, high = waiting.pop()
        size = uids.size(low, high)
        if size > rows and high - low > 1:
            middle = (low + high) // 2
            waiting += [(middle, high), (low, middle)]
        elif size:
            yield low, high


def write_set(uids: UidSet, path: Path, rows: int = ROWS) -> int:
    """Write a set as a subset file; return how many uids it holds."""
    total = 0
    with writing_uids(path) as append:
        for low, high in ranges(uids, rows):
            found = uids.repeated(low, high)
            append(found)
            total += len(found)
            uids.forget()
    return total


def sorted_runs(array: np.ndarray, folder: Path, rows: int = ROWS) -> Runs:
    """A set of uids in any order; those that are not sorted are, piece by piece, into a folder."""
    starts = range(0, len(array), rows)
    pieces = (array[max(start - 1, 0) : start + rows] for start in starts)
    if all(map(are_sorted, pieces)):
        return Runs([array])
    names = [folder / f"{number}.npy" for number in range(len(starts))]
    for name, start in zip(names, starts, strict=True):
        piece = np.array(array[start : start + rows])
        with writing_uids(name) as append:
            append(piece[order_of(piece)])
    return Runs([open_uids(name) for name in names])


def parse_set(expression: str, folder: Path, key: str = "uids") -> UidSet:
    """Read `A.npy | B.npy & (C.npy | D.npy)`; `&` binds closer than `|`.

    Args:
        expression: names of subset files with the operators; a name with one of them is quoted.
        folder: for the files that have to be sorted.
        key: option that it comes from, for the message.

    Raises:
        UserError: it is not well formed, or a file cannot be read.
    """
    pattern = r"""\s*([|&()])\s*|\s*"([^"]*)"\s*|\s*'([^']*)'\s*|\s*([^|&()]+)"""
    words = [word for found in re.findall(pattern, expression) if (word := "".join(found).strip())]
    parser = _Parser(words, folder, key, expression)
    found = parser.union()
    if parser.words:
        raise parser.error(f"`{parser.words[0]}` is not expected there")
    return found


@dataclass
class _Parser:
    words: list[str]
    folder: Path
    key: str
    expression: str
    files: int = 0

    def error(self, what: str) -> UserError:
        return UserError(
            f"--{self.key} {self.expression!r}: {what}; write A.npy, 'A.npy | B.npy' (union) or "
            "'A.npy & B.npy' (intersection)"
        )

    def union(self) -> UidSet:
        found = self.intersection()
        while self._take("|"):
            found = Pair(found, self.intersection(), is_union=True)
        return found

    def intersection(self) -> UidSet:
        found = self.file()
        while self._take("&"):
            found = Pair(found, self.file(), is_union=False)
        return found

    def file(self) -> UidSet:
        if self._take("("):
            found = self.union()
            if not self._take(")"):
                raise self.error("a `)` is missing")
            return found
        if not self.words or self.words[0] in "|&)":
            raise self.error("a file is missing")
        array = open_uids(Path(self.words.pop(0)), self.key)
        self.files += 1
        place = self.folder / str(self.files)
        return sorted_runs(array, place)

    def _take(self, word: str) -> bool:
        if self.words[:1] == [word]:
            self.words.pop(0)
            return True
        return False
