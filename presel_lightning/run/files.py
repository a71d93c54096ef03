"""Atomic writes, and the folders of caches."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from presel_lightning.errors import StorageError
from presel_lightning.run.interruption import temporary_folder
from presel_lightning.run.storage import cause_of, storage_error


def user_cache() -> Path:
    """What is made once for all runs: `$PRESEL_LIGHTNING_CACHE`, or a folder in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("PRESEL_LIGHTNING_CACHE") or f"{home}/presel_lightning").expanduser()


UMASK = os.umask(0o077)
"""Permissions that the user's files do not have; read once, as it can only be read by setting it."""
os.umask(UMASK)

_SCRATCH: ContextVar[Path | None] = ContextVar("scratch", default=None)


def scratch() -> Path | None:
    """Where a command that keeps nothing makes what it does not find; None for all others."""
    return _SCRATCH.get()


@contextmanager
def keeping_nothing() -> Iterator[None]:
    """Have what is usually made once (unpacked images, shipped pools) made in a temporary folder.

    What lies in the run folder or in the user's cache already is used from there.
    """
    with temporary_folder() as folder:
        token = _SCRATCH.set(folder)
        try:
            yield
        finally:
            _SCRATCH.reset(token)


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part.

    `durable` is that of `replacing`.
    """
    content = text.encode("utf-8")
    with replacing(path, len(content), durable=durable) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401 - any JSON value
    """Write JSON atomically; NaN is refused, as no other reader knows it."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_text(path, text)


def read_json(path: Path) -> Any:  # noqa: ANN401 - any JSON value
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, unless it is there.

    Raises:
        StorageError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise storage_error(error, folder) or StorageError(
            f"{folder}: the folder cannot be made ({reason}); give another"
        ) from error


@contextmanager
def replacing(
    path: Path, size: int = 0, *, durable: bool = True, named: bool = True
) -> Iterator[Path]:
    """Hand out a temporary name; sync what was written there and move it to `path` at the end.

    Args:
        path: the file.
        size: its bytes, as far as they are known before, for the message where they do not fit.
        durable: sync it; without, a power failure may lose it.
        named: sync its folder, too; without, a power failure may lose the file as a whole, which
            is enough for what is only made again.

    Raises:
        StorageError: its folder is full, over its quota, or cannot be written.
    """
    temporary = hidden(path, f"{os.getpid()}.part")
    with _on_the_way(path, temporary, size):
        make_folder(path.parent)
        yield temporary
        set_mode(temporary)
        if durable:
            sync(temporary)
        os.replace(temporary, path)
        if durable and named:
            sync(path.parent)


@contextmanager
def replacing_folder(path: Path, size: int = 0, *, many: bool = False) -> Iterator[Path]:
    """Hand out an empty temporary folder that takes the place of `path` at the end.

    Args:
        path: the folder.
        size: bytes of its files, as far as they are known before.
        many: it holds so many files that the system syncs all of its disks faster.

    Raises:
        StorageError: its parent is full, over its quota, or cannot be written.
    """
    temporary = hidden(path, f"{os.getpid()}.part")
    with _on_the_way(path, temporary, size):
        make_folder(path.parent)
        restore(path)
        remove(temporary)
        temporary.mkdir()
        yield temporary
        if many:
            os.sync()
        else:
            sync_all(temporary)
        put(temporary, path)


@contextmanager
def _on_the_way(path: Path, temporary: Path, size: int) -> Iterator[None]:
    """Leave nothing of a write that failed, and name the folder that could not take it."""
    try:
        yield
    except Exception as error:
        needed = max(size, bytes_in(temporary))
        remove(temporary)
        if _is_elsewhere(error, path, temporary):
            raise
        if (fault := storage_error(error, path, needed)) is None:
            raise
        raise fault from error
    except BaseException:  # what succeeds has moved it
        remove(temporary)
        raise


def _is_elsewhere(error: Exception, path: Path, temporary: Path) -> bool:
    """Whether an error names a file that has nothing to do with what is written."""
    _, file = cause_of(error)
    if file is None:
        return False
    here = [path, temporary, *path.parents, *temporary.parents]
    return file not in here and not file.is_relative_to(temporary)


def put(temporary: Path, path: Path) -> None:
    """Move a file or folder to `path`; what lay there goes when the new one is there.

    A folder cannot be replaced in one step. Where a process is killed between the two, `restore`
    brings the old one back.
    """
    if path.is_symlink():  # another run's, see `join`
        path.unlink()
    old = hidden(path, "old")
    if path.is_dir():
        remove(old)
        os.replace(path, old)
    try:
        os.replace(temporary, path)
    finally:
        restore(path)
    sync(path.parent)


def restore(path: Path) -> None:
    """Bring back the old folder where its replacement was cut off; remove it where it was not."""
    old = hidden(path, "old")
    if os.path.lexists(path):
        remove(old)
    elif old.exists():
        os.replace(old, path)


def clear_parts(folder: Path) -> None:
    """Remove what writes that were killed have left in a folder, and bring back what they moved."""
    for old in folder.glob(".*.old"):
        restore(old.with_name(old.name.removeprefix(".").removesuffix(".old")))
    for part in folder.glob(".*.part"):
        remove(part)


def hidden(path: Path, kind: str) -> Path:
    """A name beside `path`, on the same file system, that no reader takes for it."""
    return path.with_name(f".{path.name}.{kind}")


def remove(path: Path) -> None:
    """Remove a file or folder as far as it can be."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def drop(folder: Path) -> None:
    """Remove a folder under another name: what is made under its own meanwhile stays."""
    old = hidden(folder, "old")
    remove(old)
    os.replace(folder, old)
    remove(old)


def bytes_in(path: Path) -> int:
    """Bytes of a file, or of all files of a folder; 0 where there is none."""
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.exists())


def sync_all(path: Path) -> None:
    """Have the system write a file, or a folder and all in it, to the disk."""
    for file in path.rglob("*") if path.is_dir() else ():
        if not file.is_symlink():
            set_mode(file)
            sync(file)
    sync(path)


def set_mode(path: Path) -> None:
    """Give a file the permissions of any new file where a library keeps it to its owner.

    safetensors writes by a temporary file of `tempfile`'s kind, which only its owner may read.
    """
    if path.is_file() and stat.S_IMODE(path.stat().st_mode) == 0o600:
        with suppress(PermissionError):  # of a file system that has one mode for all files
            path.chmod(0o666 & ~UMASK)


def sync(path: Path) -> None:
    """Have the system write a file or the entries of a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
