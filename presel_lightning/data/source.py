"""Where a pool comes from: files, folders or packages of images, and how tasks are told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from presel_lightning.data.annotations import judged, read_entries
from presel_lightning.data.csv_records import check_task, is_csv
from presel_lightning.data.entries import Entry, Record
from presel_lightning.data.folders import folder_entries, folder_records
from presel_lightning.data.images import MAX_PIXELS, Track, Verify
from presel_lightning.data.packages import Package, packed_files
from presel_lightning.data.pixels import Pixels
from presel_lightning.data.task_rules import TaskRule, first_match
from presel_lightning.data.unpack import IMAGES, RECORDS, unpack, unpacked_entries
from presel_lightning.errors import UserError
from presel_lightning.run.fingerprint import digest_file, digest_lines


@dataclass(frozen=True)
class PoolSource:
    """What a pool is read from.

    Attributes:
        files: (task, file or folder); the task is None where records tell it.
        image_root: folder that image paths are relative to.
        task_key: field that names a record's task.
        task_rules: rules that tell it instead.
        verify: how closely images are looked at.
        max_pixels: limit on an image.
        pixels: how an image is read; see `rgb_of`.
        workers: processes that look.
        text_only: whether records without an image are kept, beside the pool.
    """

    files: tuple[tuple[str | None, Path], ...]
    image_root: Path
    task_key: str = "task"
    task_rules: tuple[TaskRule, ...] = ()
    verify: Verify = "full"
    max_pixels: int = MAX_PIXELS
    pixels: Pixels = "as_shown"
    workers: int = 0
    text_only: bool = False

    def entries(self, passed_over: Counter[str] | None = None) -> Iterator[Entry]:
        """Every record with its place, its task if that can be told, and its fault if it has one.

        Args:
            passed_over: counts files of folders that are no pictures, by kind.

        Raises:
            UserError: a file holds something else than records, or those of another tool.
        """
        names = self._names()
        for (task, path), name in zip(self.files, names, strict=True):
            for entry in judged(self._stream(path, passed_over), path):
                entry.file = entry.file or name
                entry.task = task or self._task(entry.record)
                yield entry

    def _stream(self, path: Path, passed_over: Counter[str] | None) -> Iterator[Entry]:
        if path.is_dir():
            return folder_entries(path, Counter() if passed_over is None else passed_over)
        return unpacked_entries(path) or read_entries(path, self.task_key)

    def _names(self) -> list[str]:
        """Names of the files for `problems.csv`; where two are equal, as they were given."""
        names = [path.name for _, path in self.files]
        return [
            "" if path.is_dir() else name if names.count(name) == 1 else str(path)
            for name, (_, path) in zip(names, self.files, strict=True)
        ]

    def _task(self, record: Record) -> str | None:
        if self.task_rules:
            image, question = str(record.get("image")), first_question(record)
            return first_match(self.task_rules, image, question, n_questions(record))
        task = record.get(self.task_key)
        return None if task in (None, "") else str(task)

    def fingerprint(self) -> dict[str, Any]:
        """What defines the pool: the content of its files, not their places."""
        return {
            "files": [[task, _digest(path)] for task, path in self.files],
            "task_key": self.task_key,
            "task_rules": [asdict(rule) for rule in self.task_rules],
            "verify": self.verify,
            "max_pixels": self.max_pixels,
            "pixels": self.pixels,
            **({"text_only": True} if self.text_only else {}),
        }


def _digest(path: Path) -> str:
    if path.is_file():
        return digest_file(path)
    files = (path / record["image"] for record in folder_records(path))
    return digest_lines(f"{file.relative_to(path)} {_size(file)}" for file in files)


def _size(file: Path) -> int:
    """Bytes of a file; -1 for a link that leads nowhere."""
    return file.stat().st_size if file.exists() else -1


def first_question(record: Record) -> str:
    """Text of the first turn; empty where there is none."""
    turns = record.get("conversations")
    first = turns[0] if isinstance(turns, list) and turns else None
    return str(first.get("value", "")) if isinstance(first, dict) else ""


def n_questions(record: Record) -> int:
    """How many questions a conversation has."""
    turns = record.get("conversations")
    return (len(turns) + 1) // 2 if isinstance(turns, list) else 0


def listed(
    annotations: str | Sequence[str], task_files: dict[str, str] | None
) -> list[tuple[str | None, Path]]:
    """Files and folders that the configuration names, each with its task if that is told."""
    if task_files:
        return [(task, Path(name).expanduser()) for task, name in task_files.items()]
    names = [annotations] if isinstance(annotations, str) else list(annotations)
    return [(None, Path(name).expanduser()) for name in names]


def _packages(
    files: Sequence[tuple[str | None, Path]], task_key: str, needs_task: bool
) -> list[Package]:
    """The packages among these; either all are, or none."""
    found = [Package(path, packed_files(path), task_key, task, needs_task) for task, path in files]
    packages = [package for package in found if package.files]
    if packages and len(packages) < len(found):
        other = next(package.path for package in found if not package.files)
        raise UserError(
            f"data.annotations {packages[0].path} holds its images itself and {other} does not; "
            "such sources cannot be mixed: bring them to one form"
        )
    return packages


def source(
    annotations: str | Sequence[str],
    image_root: str | None = None,
    *,
    task_key: str = "task",
    task_files: dict[str, str] | None = None,
    task_rules: Sequence[TaskRule] | None = None,
    verify: Verify = "full",
    max_pixels: int = MAX_PIXELS,
    pixels: Pixels = "as_shown",
    workers: int = 0,
    text_only: bool = False,
    unpacked: Path | None = None,
    track: Track | None = None,
) -> PoolSource:
    """Describe a pool as the configuration does; unpack it first where its images are packed.

    Args:
        annotations: one or several annotation files, or one folder of folders of images, or one
            or several packages of images (see `packed_files`).
        image_root: by default the folder of the first file, or the annotation folder itself; of
            packages the folder that they are unpacked to.
        task_key: see `PoolSource`.
        task_files: {task: file}, instead of `annotations`.
        task_rules: see `PoolSource`.
        verify: see `PoolSource`.
        max_pixels: see `PoolSource`.
        pixels: see `PoolSource`.
        workers: see `PoolSource`.
        text_only: see `PoolSource`.
        unpacked: folder for packed images; see `unpack`.
        track: shows the progress of unpacking.

    Raises:
        UserError: a file or folder does not exist, or is not what it seems to be.
    """
    files = listed(annotations, task_files)
    key = "data.task_files" if task_files else "data.annotations"
    if missing := [str(path) for _, path in files if not path.exists()]:
        raise UserError(f"{key} {', '.join(missing)}: no such file or folder")
    needs_task = not task_files and not task_rules
    if packages := _packages(files, task_key, needs_task):
        if image_root is not None:
            raise UserError(
                f"{key} {files[0][1]} holds its images itself; leave out data.image_root"
            )
        if unpacked is None:
            raise UserError(f"{key} {files[0][1]} is to be unpacked; say where: unpacked=FOLDER")
        place = unpack(packages, unpacked, track)
        files, image_root = [(None, place / RECORDS)], str(place / IMAGES)
    for _, path in files:
        if needs_task and is_csv(path):
            check_task(path, task_key)
    first = files[0][1]
    root = (
        Path(image_root).expanduser() if image_root else (first if first.is_dir() else first.parent)
    )
    if not root.is_dir():
        raise UserError(f"data.image_root {root}: no such folder")
    rules = () if task_files else tuple(task_rules or ())
    look = verify, max_pixels, pixels, workers
    return PoolSource(tuple(files), root, task_key, rules, *look, text_only)
