"""Arrays on disk that are filled in any order."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np

from presel_lightning.run.storage import storing

CHUNK = 1 << 20
"""Bytes that are written at a time where the system cannot reserve them."""


def new_array(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """A new memory-mapped array (`.npy`) whose space on the disk is reserved.

    Memory that is mapped to a file without blocks ends the process by SIGBUS when it is written to
    on a full disk; reserved blocks turn that into an error here.

    Raises:
        StorageError: there is no room for it.
    """
    length = int(np.prod(shape)) * dtype.itemsize
    with storing(path, length), path.open("wb") as handle:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
        np.lib.format.write_array_header_1_0(handle, {**header, "shape": shape})
        handle.flush()
        reserve(handle, length)
    array: np.ndarray = np.lib.format.open_memmap(path, "r+")
    return array


def move_array(values: np.ndarray, path: Path) -> bool:
    """Rename the file of an array that is mapped for writing as a whole; else return False."""
    if not (isinstance(values, np.memmap) and values.mode == "r+"):
        return False
    if not isinstance(values.base, mmap.mmap):  # a part of it
        return False
    values.flush()
    try:
        os.replace(values.filename, path)
    except OSError:  # on another file system
        return False
    return True


def advise(array: np.ndarray, advice: int) -> None:
    """Advise the system how a mapped array is read, where it takes advice.

    Args:
        array: mapped from a file, or a part of such a one; any other is left as it is.
        advice: `mmap.MADV_RANDOM` reads no more than what is asked for; `mmap.MADV_DONTNEED` gives
            the pages back, which are read again when they are needed.
    """
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(base, "madvise"):
        base.madvise(advice)


def reserve(handle: BinaryIO, length: int) -> None:
    """Reserve blocks behind the end of a file; they read as zeros."""
    start = handle.seek(0, os.SEEK_END)
    if hasattr(os, "posix_fallocate") and length:
        os.posix_fallocate(handle.fileno(), start, length)
        return
    handle.writelines(bytes(min(CHUNK, length - offset)) for offset in range(0, length, CHUNK))
