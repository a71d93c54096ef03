"""Atomic writes, and the folders of caches."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from presel_lightning.run.interruption import temporary_folder


def user_cache() -> Path:
    """What is made once for all runs: `$PRESEL_LIGHTNING_CACHE`, or a folder in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("PRESEL_LIGHTNING_CACHE") or f"{home}/presel_lightning").expanduser()


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


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401 - any JSON value
    """Write JSON atomically; NaN is refused, as no other reader knows it."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:  # noqa: ANN401 - any JSON value
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Hand out a temporary name; sync what was written there and move it to `path` at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Hand out an empty temporary folder that takes the place of `path` at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            _sync(file)
        if path.is_symlink():  # another run's, see `join`
            path.unlink()
        shutil.rmtree(path, ignore_errors=True)
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
