"""What a rule is: it tells of each row of metadata whether it holds, fails, or cannot be known."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa

from presel_lightning.filters.arrow import as_numpy, int64_array
from presel_lightning.filters.uids import parse_uids

FAILS, UNKNOWN, HOLDS = 0, 1, 2
"""Verdicts, int8: `all` is their minimum, `any` their maximum, `not` is 2 minus one (Kleene)."""

TEXT = ("text", "caption")
WIDTH = ("original_width", "width")
HEIGHT = ("original_height", "height")
STATUS = ("status",)
"""Names of a column, the preferred one first: DataComp's metadata, and that of img2dataset."""

Names = tuple[str, ...]


@dataclass(frozen=True)
class Rows:
    """Some rows of one metadata file; uids and columns are taken when they are asked for.

    Args:
        texts: uids of a batch of rows, hex digits.
        table: columns of the batch.
        unit: number of the file in the pool.
        start: number of the first row of the batch in its file.
        index: (N,) which rows of the batch; None for all.
    """

    texts: pa.Array
    table: pa.Table
    unit: int = 0
    start: int = 0
    index: np.ndarray | None = None

    def __len__(self) -> int:
        """How many."""
        return len(self.texts) if self.index is None else len(self.index)

    @property
    def numbers(self) -> np.ndarray:
        """Of the rows in their file, (N,)."""
        return self.start + (np.arange(len(self)) if self.index is None else self.index)

    @cached_property
    def parsed(self) -> tuple[np.ndarray, np.ndarray]:
        """Uids, (N,) of dtype `UID`, and whether each is well formed; 0 where it is not."""
        return parse_uids(self.texts, self.index)

    @property
    def uids(self) -> np.ndarray:
        """The uids alone."""
        return self.parsed[0]

    def uid_texts(self) -> list[str | None]:
        """The uids as they are written."""
        found: list[str | None] = self._taken(self.texts).to_pylist()
        return found

    def column(self, names: Names) -> pa.Array:
        """A column under any of its names."""
        column = self.table.column(names[0])
        # to combine one chunk would copy it
        return self._taken(column.chunk(0) if column.num_chunks == 1 else column.combine_chunks())

    def take(self, index: np.ndarray) -> Rows:
        """Some of the rows."""
        index = index if self.index is None else self.index[index]
        return replace(self, index=index)

    def _taken(self, array: pa.Array) -> pa.Array:
        return array if self.index is None else array.take(int64_array(self.index))


@dataclass(frozen=True)
class Limit:
    """From which score on rows are kept, and which of those that have just this score.

    Of equal scores those with the smallest scrambled uid are kept; of equal uids, the first.
    """

    score: float
    scrambled: int  # smaller ones are kept
    unit: int = 0  # of this very one, those of earlier rows
    row: int = 0


class Rule(ABC):
    """A condition on a row. Its name in a config is that of its file."""

    @abstractmethod
    def columns(self) -> Sequence[Names]:
        """Columns that it reads, each with its names."""

    @abstractmethod
    def verdicts(self, rows: Rows, limits: Mapping[Rule, Limit]) -> np.ndarray:
        """`FAILS`, `UNKNOWN` or `HOLDS` of each row, (N,) int8.

        Args:
            rows: of one file.
            limits: of the rules that keep a fraction of the pool.
        """

    def parts(self) -> Iterator[Rule]:
        """Itself, or the rules that it is made of."""
        yield self


def verdicts_of(mask: pa.Array | np.ndarray) -> np.ndarray:
    """Verdicts of a mask that may have nulls."""
    if isinstance(mask, np.ndarray):
        found: np.ndarray = mask.astype(np.int8) * np.int8(HOLDS)
        return found
    if isinstance(mask, pa.ChunkedArray):
        mask = mask.combine_chunks()
    found = verdicts_of(as_numpy(mask))
    if mask.null_count:
        found[as_numpy(mask.is_null())] = UNKNOWN
    return found


def both(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Verdicts of two conditions that must hold together."""
    found: np.ndarray = np.minimum(first, second)
    return found


def refined(verdicts: np.ndarray, rows: Rows, more: Rule, limits: Mapping[Rule, Limit]) -> None:
    """And one more rule, in place; rows that fail already are passed over."""
    left = np.count_nonzero(verdicts)  # all but `FAILS`
    if left == len(rows):
        np.minimum(verdicts, more.verdicts(rows, limits), out=verdicts)
        return
    if left == 0:
        return
    open_rows = np.flatnonzero(verdicts)
    some = rows.take(open_rows)
    verdicts[open_rows] = np.minimum(verdicts[open_rows], more.verdicts(some, limits))
