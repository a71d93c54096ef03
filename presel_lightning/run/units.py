"""Units of work, each with a manifest that is written last: what has one is done."""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import fsspec
import numpy as np

from presel_lightning.run.files import read_json, replacing, write_text
from presel_lightning.run.fingerprint import fingerprint

ENDS = 1 << 16
"""Bytes from both ends of a file that name it, beside its size and time."""


Manifest = dict[str, Any]


@dataclass(frozen=True)
class Stage(ABC):
    """What is done to each unit; it can be pickled.

    Args:
        folder: of the manifests, and of the arrays beside them.
        key: what defines the result, beside the unit itself.
    """

    folder: Path
    key: str
    manifest_paths: dict[int, Path] = field(
        default_factory=dict, compare=False, repr=False, kw_only=True
    )
    """Of the manifests, once they are known."""

    holds_model: ClassVar[bool] = False
    """Whether a process keeps something that takes long to load, from one unit to the next."""

    @abstractmethod
    def defined_by(self, number: int) -> object:
        """Paths and contents of a unit."""

    @abstractmethod
    def __call__(self, number: int) -> None:
        """Do a unit and write its manifest; twice does no harm."""

    def manifest(self, number: int) -> Path:
        """Where the manifest of a unit lies once it is done."""
        if number not in self.manifest_paths:
            parts = [self.defined_by(number), self.key, type(self).__name__]
            self.manifest_paths[number] = self.folder / f"{number:08d}-{fingerprint(parts)}.json"
        return self.manifest_paths[number]

    def array(self, number: int, name: str) -> Path:
        """An array of a unit, beside its manifest."""
        return self.manifest(number).with_suffix(f".{name}.npy")

    def mapped(self, number: int, name: str) -> np.ndarray:
        """An array of a unit, mapped into memory."""
        # as `np.load` maps it, which opens a file three times
        with self.array(number, name).open("rb") as file:
            np.lib.format.read_magic(file)
            shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
            order: Literal["F", "C"] = "F" if by_columns else "C"
            return np.asarray(np.memmap(file, dtype, "r", file.tell(), shape, order))

    def save(self, number: int, name: str, array: np.ndarray) -> None:
        """Write an array of a unit; its manifest follows."""
        with replacing(self.array(number, name), named=False) as part, part.open("wb") as file:
            np.save(file, array)

    def finish(self, number: int, manifest: Manifest) -> None:
        """Write the manifest of a unit, whose arrays are there.

        It is not synced, as its arrays are: a power failure may lose or empty it, and its unit is
        done again.
        """
        text = json.dumps(manifest, ensure_ascii=False, allow_nan=False)
        write_text(self.manifest(number), text, durable=False)

    def is_done(self, number: int) -> bool:
        """Whether a unit has a manifest; an empty file is none."""
        try:
            return self.manifest(number).stat().st_size > 0
        except FileNotFoundError:
            return False

    def read(self, number: int) -> Manifest:
        """What a unit has counted."""
        found: Manifest = read_json(self.manifest(number))
        return found


def pending(stage: Stage, numbers: Sequence[int]) -> list[int]:
    """The units that have no manifest yet."""
    return [number for number in numbers if not stage.is_done(number)]


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
