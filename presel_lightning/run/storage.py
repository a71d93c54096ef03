"""Faults of the storage that is written to: full, over its quota, read-only; each as one line."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from presel_lightning.console import size
from presel_lightning.errors import StorageError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
BARRED = (errno.EROFS, errno.EACCES, errno.EPERM)

NUMBERED = re.compile(r"\b(?:os error|errno) (\d+)", re.IGNORECASE)
"""How safetensors, pyarrow and others quote the number of the system's error."""
CUT_OFF = re.compile(
    r"unexpected pos \d+|iostream error|failed writing file|\d+ requested and \d+ written"
)
"""What torch and NumPy raise where a write ended early, without the system's reason."""
SQLITE = {
    "database or disk is full": errno.ENOSPC,
    "attempt to write a readonly database": errno.EROFS,
    "unable to open database file": errno.EACCES,
}


@contextmanager
def storing(path: Path, needed: int = 0) -> Iterator[None]:
    """Raise a fault of the storage of `path` as a `StorageError` that names its folder.

    Args:
        path: the file that is written.
        needed: its bytes, as far as they are known before.
    """
    try:
        yield
    except Exception as error:
        if (fault := storage_error(error, path, needed)) is None:
            raise
        raise fault from error


@contextmanager
def storing_anywhere(places: Callable[[], Sequence[Path]]) -> Iterator[None]:
    """Raise a fault of the storage as a `StorageError`, whatever library met it.

    Args:
        places: folders that a command writes to; where an error names no file, the fullest of them
            is named.
    """
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        known = next((e for e in chain(error) if isinstance(e, StorageError)), None)
        fault = known or _fault_anywhere(error, places)
        if fault is None:
            raise
        raise fault from error


def _fault_anywhere(
    error: BaseException, places: Callable[[], Sequence[Path]]
) -> StorageError | None:
    number, file = cause_of(error)
    if number is None or (file is None and number in (errno.EACCES, errno.EPERM)):
        return None  # not a file's: a socket, a device
    if file is not None:
        return storage_error(error, file)
    folders = [folder for folder in map(existing, places()) if os.access(folder, os.W_OK)]
    fullest = min(folders, key=free_bytes, default=Path())
    return storage_error(error, fullest / "a file")


def storage_error(error: BaseException, path: Path, needed: int = 0) -> StorageError | None:
    """The error that names the folder of `path`, if a fault of the storage is behind an error.

    Args:
        error: what was raised while `path` was written.
        path: the file or folder under its final name.
        needed: bytes that it takes at least; 0 where nothing is known.
    """
    number, _ = cause_of(error)
    if number is None:
        return None
    if number == 0:  # a write ended early
        number = errno.EROFS if is_read_only(path.parent) else errno.ENOSPC
    inner = (each.needed for each in chain(error) if isinstance(each, StorageError))
    needed = max(needed, *inner, 0)
    reason = os.strerror(number).lower()
    folder = path.parent if path.parent != Path() else Path.cwd()
    where = f"{folder}: {reason} while writing {path.name}"
    if number in FULL:
        return StorageError(
            f"{where}{_space(path.parent, needed, number)}; make room, and the same command "
            "continues",
            number,
            needed,
        )
    unreachable = path.parent.is_dir() and not os.access(path.parent, os.X_OK)
    if unreachable or (os.path.lexists(path) and not os.access(path, os.R_OK)):
        return StorageError(f"{path}: cannot be read ({reason}); make it readable", number)
    return StorageError(
        f"{where}; make the folder writable or give another; the same command continues", number
    )


def _space(folder: Path, needed: int, number: int) -> str:
    """Describe the space; what is free says nothing of a quota."""
    if number != errno.ENOSPC:
        return f", which needs at least {size(needed)}" if needed else ""
    free = f"{size(free_bytes(folder))} are free"
    return f", which needs at least {size(needed)}; {free}" if needed else f"; {free}"


def cause_of(error: BaseException) -> tuple[int | None, Path | None]:
    """The system's error number behind an error, and the file that it names.

    Returns:
        (number, file): number is None for another kind of error, and 0 where a write ended early
        for a reason that is not known.
    """
    found = [pair for each in chain(error) if (pair := _cause(each))[0] is not None]
    # a number is worth more than a write that ended early
    return next((pair for pair in found if pair[0]), found[0] if found else (None, None))


def _cause(error: BaseException) -> tuple[int | None, Path | None]:
    if isinstance(error, OSError) and error.errno is not None:
        file = error.filename if isinstance(error.filename, str | os.PathLike) else None
        number = error.errno if error.errno in (*FULL, *BARRED) else None
        return number, None if file is None else Path(file)
    text = str(error)
    if isinstance(error, sqlite3.OperationalError):
        return SQLITE.get(text), None
    if found := NUMBERED.search(text):
        number = int(found.group(1))
        return (number if number in (*FULL, *BARRED) else None), None
    return (0 if CUT_OFF.search(text) else None), None


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it came from, the last first."""
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def existing(folder: Path) -> Path:
    """A folder, or the nearest above it that exists."""
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if place.is_dir())


def free_bytes(folder: Path) -> int:
    """Bytes that are free on the storage of a folder, which need not exist yet."""
    return shutil.disk_usage(existing(folder)).free


def is_read_only(folder: Path) -> bool:
    """Whether the file system of a folder is mounted read-only."""
    return bool(os.statvfs(existing(folder)).f_flag & os.ST_RDONLY)
