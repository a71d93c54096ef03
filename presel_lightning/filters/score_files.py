"""Files of scores beside one metadata file: in its order, or joined by uid."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from presel_lightning.filters.faults import Fault
from presel_lightning.filters.rule import Names
from presel_lightning.filters.uids import UID, order_of, parse_uids, positions


class ScoreFile:
    """A `.parquet` or `.npz` with a uid in each row, read when it is asked for a column.

    Args:
        files: file system.
        path: of the file.

    Raises:
        Fault: it cannot be read.
    """

    def __init__(self, files: fsspec.AbstractFileSystem, path: str) -> None:
        self.files, self.path = files, path
        self.tables: dict[str, pa.Array] = {}

    @cached_property
    def names(self) -> frozenset[str]:
        """Its columns."""

        def read() -> list[str]:
            with self.files.open(self.path) as handle:
                if self.path.endswith(".npz"):
                    return list(np.load(handle, allow_pickle=False).files)
                return list(pq.read_schema(handle).names)

        return frozenset(_reading(self.path, read))

    def column(self, name: str) -> pa.Array:
        """A column as a whole.

        Raises:
            Fault: it cannot be read.
        """
        if name not in self.tables:

            def read() -> pa.Array:
                with self.files.open(self.path) as handle:
                    if self.path.endswith(".npz"):
                        return as_arrow(np.load(handle, allow_pickle=False)[name])
                    table = pq.read_table(handle, columns=[name], use_threads=False)
                return table.column(name).combine_chunks()

            self.tables[name] = _reading(self.path, read)
        return self.tables[name]

    @cached_property
    def _index(self) -> tuple[np.ndarray, np.ndarray]:
        """Sorted uids, and the row of each."""
        if "uid" not in self.names:
            raise Fault(self.path, "missing_column", "it has no column uid")
        uids, valid = uids_of(self.column("uid"), self.path)
        rows = np.flatnonzero(valid)
        order = order_of(uids[rows])
        return uids[rows][order], rows[order]

    def of(self, uids: np.ndarray, name: str) -> pa.Array:
        """Values of a column for some uids; null where it has none."""
        table, rows = self._index
        return self.column(name).take(matched(table, rows, uids))


def matched(table: np.ndarray, rows: np.ndarray, uids: np.ndarray) -> pa.Array:
    """The row of each uid in a sorted table, null where it is not there."""
    if not len(table):
        return pa.nulls(len(uids), pa.int64())
    place = np.minimum(positions(table, uids), len(table) - 1)
    return pa.array(rows[place], pa.int64(), mask=np.asarray(table[place], UID) != uids)


def uids_of(column: pa.Array, path: str) -> tuple[np.ndarray, np.ndarray]:
    """Uids of a column of hex digits, or of pairs of whole numbers.

    Raises:
        Fault: it holds neither.
    """
    if pa.types.is_fixed_size_binary(column.type):  # `u8,u8` of an .npz
        raw = column.buffers()[1]
        return np.frombuffer(raw, UID)[: len(column)], np.ones(len(column), bool)
    try:
        return parse_uids(column)
    except (pa.ArrowException, ValueError) as error:
        raise Fault(path, "malformed_uid", f"uid is {column.type}") from error


def read_arrays(
    files: fsspec.AbstractFileSystem, path: str, wanted: Sequence[Names], rows: int
) -> dict[str, pa.Array]:
    """Wanted arrays of an `.npz` in the order of the metadata beside it, by their first names.

    Raises:
        Fault: it cannot be read, or has another number of rows.
    """

    def read() -> dict[str, pa.Array]:
        with files.open(path) as handle, np.load(handle, allow_pickle=False) as arrays:
            names = {each[0]: next((n for n in each if n in arrays.files), None) for each in wanted}
            return {first: as_arrow(arrays[name]) for first, name in names.items() if name}

    found: dict[str, pa.Array] = _reading(path, read)
    wrong = next((name for name, array in found.items() if len(array) != rows), None)
    if wrong is not None:
        detail = f"{wrong} has {len(found[wrong])} rows, the metadata {rows}"
        raise Fault(path, "unreadable", detail)
    return found


def as_arrow(array: np.ndarray) -> pa.Array:
    """A column of an array: its rows are values, vectors, or uids."""
    if array.dtype == UID:
        raw = pa.py_buffer(np.ascontiguousarray(array))
        return pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(UID.itemsize), len(array), [None, raw]
        )
    if array.ndim == 1:
        return pa.array(array)
    flat = pa.array(np.ascontiguousarray(array).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, int(np.prod(array.shape[1:])))


def _reading(path: str, read: Any) -> Any:  # noqa: ANN401 - what the function returns
    try:
        return read()
    except Fault:
        raise
    except (OSError, ValueError, EOFError, KeyError, pa.ArrowException) as error:
        detail = " ".join(str(error).split())[:300]
        raise Fault(path, "unreadable", detail) from error
