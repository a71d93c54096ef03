"""Units of work, each with a manifest that is written last: what has one is done, whoever did it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import fsspec

ENDS = 1 << 16
"""Bytes from both ends of a file that name it, beside its size and time."""


class Stage(Protocol):
    """What is done to each unit; it can be pickled."""

    def manifest(self, number: int) -> Path:
        """Where the manifest of a unit lies once it is done."""
        ...

    def __call__(self, number: int) -> None:
        """Do a unit and write its manifest; twice does no harm."""
        ...


def pending(stage: Stage, numbers: Sequence[int]) -> list[int]:
    """The units that have no manifest yet."""
    return [number for number in numbers if not stage.manifest(number).is_file()]


def state_of(files: fsspec.AbstractFileSystem, path: str) -> list[Any]:
    """Name the content of a file without reading all of it.

    Of a local file: its size, time of modification, and a digest of both ends; of another what the
    file system itself names it by. None where there is no file.
    """
    if "file" not in files.protocol:
        return [files.ukey(path)]
    try:
        facts = os.stat(path)
        with open(path, "rb") as handle:
            digest = hashlib.blake2b(handle.read(ENDS), digest_size=8)
            handle.seek(max(0, facts.st_size - ENDS))
            digest.update(handle.read())
    except OSError as error:
        return [type(error).__name__]
    return [facts.st_size, facts.st_mtime_ns, digest.hexdigest()]
