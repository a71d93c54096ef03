"""Subset files: DataComp's sorted `.npy` of uids, read by memory map and written as a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np

from presel_lightning.errors import UserError
from presel_lightning.filters.uids import UID, are_sorted
from presel_lightning.run.files import replacing

MAGIC = b"\x93NUMPY"
ROWS = 1 << 20
"""Rows that are read at a time."""


def open_uids(path: Path, key: str = "uids") -> np.ndarray:
    """Map a subset file into memory.

    Args:
        path: `.npy` of dtype `u8,u8`, or the same rows without a header.
        key: option that names the file, for the message.

    Raises:
        UserError: there is no such file, or it holds something else.
    """
    try:
        with path.open("rb") as handle:
            has_header = handle.read(len(MAGIC)) == MAGIC
        if not has_header:
            return _without_header(path)
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"--{key} {path}: no uids there ({error})") from error
    if rows.ndim != 1 or rows.dtype.names != ("f0", "f1") or rows.dtype != UID:
        raise UserError(
            f"--{key} {path}: shape {rows.shape} and dtype {rows.dtype}; give a 1-D array of dtype "
            "u8,u8, as `filter` writes it"
        )
    return np.asarray(rows)


@cache
def sorted_uids(path: str, key: str = "uids") -> np.ndarray:
    """Map a subset file that must be sorted.

    Raises:
        UserError: as `open_uids`, or it is not sorted.
    """
    table = open_uids(Path(path), key)
    for start in range(0, len(table), ROWS):
        if not are_sorted(table[max(start - 1, 0) : start + ROWS]):
            raise UserError(
                f"--{key} {path}: its rows are not sorted; `filter --uids {path} --output NEW.npy` "
                "sorts them"
            )
    return table


def _without_header(path: Path) -> np.ndarray:
    size = path.stat().st_size
    if size % UID.itemsize:
        raise ValueError(f"{size} bytes, not a multiple of {UID.itemsize}")
    if not size:
        return np.empty(0, UID)
    return np.asarray(np.memmap(path, UID, "r"))


@contextmanager
def writing_uids(path: Path) -> Iterator[Callable[[np.ndarray], None]]:
    """Hand out a function that appends uids to a new subset file; it is there at the end.

    The bytes are those of `np.save`. The header has room for any length, so that it is written
    last.
    """
    length = 0
    with replacing(path) as part, part.open("wb") as handle:
        _header(handle, 0)

        def append(rows: np.ndarray) -> None:
            nonlocal length
            handle.write(np.ascontiguousarray(rows).view(np.uint8).data)
            length += len(rows)

        yield append
        handle.seek(0)
        _header(handle, length)


def _header(handle: BinaryIO, length: int) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(UID), "fortran_order": False}
    np.lib.format.write_array_header_1_0(handle, {**header, "shape": (length,)})
