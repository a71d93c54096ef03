"""Checkpoints of a fit: written beside their place, checked before use, two of them kept."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from presel_lightning.console import console
from presel_lightning.run.files import (
    clear_parts,
    put,
    read_json,
    remove,
    replacing,
    sync,
    sync_all,
    write_json,
)

KEPT = 2
"""Checkpoints of a fit that are kept: the newest, and one for the case that it is damaged."""
MARK = "whole.json"
"""In the folder of a sharded checkpoint: bytes of each of its files; written when all are there."""


class CheckpointFile(TorchCheckpointIO):
    """Writes a checkpoint beside its place, syncs and renames it.

    Lightning's own holds a second copy in memory and writes to the system's temporary folder; from
    another file system it is then copied to its final name, which a kill leaves half written.
    """

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any | None = None,  # noqa: ANN401 - Lightning's signature
    ) -> None:
        """Write a checkpoint.

        Raises:
            StorageError: its folder is full or cannot be written.
        """
        if storage_options is not None:
            raise TypeError("storage_options are not supported")
        with (
            replacing(Path(path), tensor_bytes(checkpoint)) as temporary,
            temporary.open("wb") as handle,
        ):
            torch.save(checkpoint, handle)


def tensor_bytes(value: Any) -> int:  # noqa: ANN401 - anything that is saved
    """Bytes of all tensors in nested dicts and lists."""
    return sum(tensor.numel() * tensor.element_size() for tensor in _tensors(value))


def _tensors(value: Any) -> Iterator[torch.Tensor]:  # noqa: ANN401
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def settle(part: Path, path: Path) -> None:
    """Give a checkpoint that all processes have written its name, and remove those before the last.

    Args:
        part: file, or folder of a sharded checkpoint.
        path: its name, with its step.
    """
    if part.is_dir():
        files = (file for file in part.rglob("*") if file.is_file())
        sizes = {file.relative_to(part).as_posix(): file.stat().st_size for file in files}
        write_json(part / MARK, sizes)
    sync_all(part)
    put(part, path)
    for older in by_step(path.parent)[:-KEPT]:
        (older / MARK).unlink(missing_ok=True) if older.is_dir() else None
        remove(older)
    sync(path.parent)


def newest(folder: Path) -> Path | None:
    """The last whole checkpoint of a fit; damaged ones are removed, and a line says so.

    Args:
        folder: of the fit's checkpoints.

    Returns:
        None where the fit has to begin again.
    """
    clear_parts(folder)
    damaged: dict[str, str] = {}
    found: Path | None = None
    for path in reversed(by_step(folder)):
        if (fault := fault_of(path)) is None:
            found = path
            break
        damaged[path.stem] = fault
        remove(path)
    if damaged:
        which = ", ".join(f"{name} ({fault})" for name, fault in damaged.items())
        then = f"continues from {found.stem}" if found else "begins again"
        console.print(
            f"[yellow]![/] checkpoint {which} in {folder} is damaged; the fit {then}",
            soft_wrap=True,
        )
    return found


def by_step(folder: Path) -> list[Path]:
    """Checkpoints of a fit, the oldest first."""
    return sorted((path for path in folder.glob("*.ckpt") if step_of(path) >= 0), key=step_of)


def step_of(path: Path) -> int:
    """Step of a checkpoint, from its name; -1 where there is none in it."""
    found = re.search(r"step=(\d+)", path.name)
    return int(found.group(1)) if found else -1


def fault_of(path: Path) -> str | None:
    """What is wrong with a checkpoint; None where it is whole.

    A file is a zip archive that holds a checksum of each of its parts; all of it is read once. The
    files of a sharded checkpoint must be those of its mark, with their sizes.
    """
    if path.is_file():
        return _fault_of_archive(path)
    if not (path / MARK).is_file():
        return "not written to its end"
    for name, length in read_json(path / MARK).items():
        file = path / name
        if not file.is_file() or file.stat().st_size != length:
            return f"{name} is missing or cut off"
        if zipfile.is_zipfile(file) and (fault := _fault_of_archive(file)):
            return f"{name}: {fault}"
    return None


def _fault_of_archive(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        return str(error).lower() or "cut off"
    return None if broken is None else f"wrong checksum of {broken}"
