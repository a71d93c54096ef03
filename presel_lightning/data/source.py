"""Where a pool comes from: files, folders or packages of images, and where tasks are named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, get_args

from presel_lightning.data.annotations import FIRST, judged, read_entries
from presel_lightning.data.csv_records import check_task, is_csv
from presel_lightning.data.entries import Entry, Fault, Record
from presel_lightning.data.exclude import read_excluded
from presel_lightning.data.folders import folder_entries, folder_records
from presel_lightning.data.foreign import refuse_foreign
from presel_lightning.data.formats import formats
from presel_lightning.data.images import MAX_PIXELS, Track, Verify
from presel_lightning.data.packages import Package, beside, packed_files
from presel_lightning.data.pixels import Pixels
from presel_lightning.data.resolver import Resolver, tidy
from presel_lightning.data.task_rules import TaskRule, first_match
from presel_lightning.data.unpack import IMAGES, RECORDS, unpack, unpacked_entries
from presel_lightning.data.values import AnswerLists
from presel_lightning.errors import UserError
from presel_lightning.run.fingerprint import digest_file, digest_lines

SeveralImages = Literal["refuse", "keep"]
"""Whether a record with several images is a problem, or part of the pool."""
TASK_KEY = "task"
"""Field that names a record's task unless the configuration names another."""
ONE_TASK = (
    "the records of {path} have no field `{key}`: all are one task, {task!r}; data.task_key names "
    "another field, and data.task_rules or data.task_files tell tasks without one"
)


@dataclass(frozen=True)
class PoolSource:
    """What a pool is read from.

    Attributes:
        files: (task, file or folder); the task is None where records tell it.
        image_root: folder that image paths are relative to.
        task_key: field that names a record's task.
        task_rules: rules that tell it instead.
        verify: how closely images are checked.
        max_pixels: limit on an image.
        pixels: how an image is read; see `rgb_of`.
        workers: processes that look.
        text_only: whether records without an image are kept, beside the pool.
        follow_links: whether links below the image root may lead out of it.
        beside: files beside packed images that are no part of them, by kind.
        answer_lists: what becomes of an answer that is a list; see `picked`.
        several_images: whether a record with several images is kept.
        exclude: reason by uid of the records that are left out on request.
        caption_key: field of a record that holds a caption; see `captioned`.
    """

    files: tuple[tuple[str | None, Path], ...]
    image_root: Path
    task_key: str = TASK_KEY
    task_rules: tuple[TaskRule, ...] = ()
    verify: Verify = "full"
    max_pixels: int = MAX_PIXELS
    pixels: Pixels = "as_shown"
    workers: int = 0
    text_only: bool = False
    follow_links: bool = False
    beside: Mapping[str, int] = field(default_factory=dict)
    answer_lists: AnswerLists = "refuse"
    several_images: SeveralImages = "refuse"
    exclude: Mapping[str, str] = field(default_factory=dict)
    caption_key: str | None = None

    @property
    def resolver(self) -> Resolver:
        """What finds the images below the root."""
        return Resolver(self.image_root, self.follow_links)

    def entries(
        self, passed_over: Counter[str] | None = None, notices: list[str] | None = None
    ) -> Iterator[Entry]:
        """Every record with its place, its task if that is known, and its fault if it has one.

        Args:
            passed_over: counts files of folders that are no pictures, by kind.
            notices: takes lines that say how something was read.

        Raises:
            UserError: a file holds something else than records, or those of another tool.
        """
        if passed_over is not None:
            passed_over.update(self.beside)
        names = self._names()
        for (task, path), name in zip(self.files, names, strict=True):
            stream = judged(self._stream(path, passed_over), path)
            if task is None and not self.task_rules and is_plain_file(path):
                task, stream = file_task(stream, path, self.task_key)
                if task and notices is not None:
                    notices.append(ONE_TASK.format(path=path, task=task, key=self.task_key))
            for entry in stream:
                entry.file = entry.file or name
                if isinstance(image := entry.record.get("image"), str):
                    entry.record["image"] = tidy(image)
                elif isinstance(image, list):
                    self._take_several(entry, image)
                entry.task = task or self._task(entry)
                yield entry

    def _stream(self, path: Path, passed_over: Counter[str] | None) -> Iterator[Entry]:
        if path.is_dir():
            others = Counter[str]() if passed_over is None else passed_over
            return folder_entries(path, others, self.follow_links)
        how = self.answer_lists, self.caption_key
        return unpacked_entries(path) or read_entries(path, self.task_key, *how)

    def _take_several(self, entry: Entry, images: list[Any]) -> None:
        """Tidy the paths of a record with several images, or refuse it."""
        entry.record["image"] = [tidy(one) if isinstance(one, str) else one for one in images]
        if self.several_images == "refuse" and entry.fault is None:
            detail = f"it has {len(images)} images; data.several_images: keep takes them"
            entry.fault = Fault("several_images", detail)

    def _names(self) -> list[str]:
        """Names of the files for `problems.csv`; where two are equal, as they were given."""
        names = [path.name for _, path in self.files]
        return [
            "" if path.is_dir() else name if names.count(name) == 1 else str(path)
            for name, (_, path) in zip(names, self.files, strict=True)
        ]

    def _task(self, entry: Entry) -> str | None:
        record = entry.record
        if self.task_rules:
            image = record.get("image")
            image = str(image[0] if isinstance(image, list) and image else image)
            question = first_question(record)
            return first_match(self.task_rules, image, question, n_questions(record))
        task = record.get(self.task_key)
        if isinstance(task, list | dict):
            detail = f"`{self.task_key}` is {task!r:.60}; a task is one name"
            entry.fault = entry.fault or Fault("bad_task", detail)
            return None
        return None if task in (None, "") else str(task)

    def fingerprint(self) -> dict[str, Any]:
        """What defines the pool: the content of its files, not their places."""
        return {
            "files": [[task, _digest(path, self.follow_links)] for task, path in self.files],
            "task_key": self.task_key,
            "task_rules": [asdict(rule) for rule in self.task_rules],
            "verify": self.verify,
            "max_pixels": self.max_pixels,
            "pixels": self.pixels,
            "formats": formats(),
            **({"text_only": True} if self.text_only else {}),
            **({"follow_links": True} if self.follow_links else {}),
            **({"answer_lists": self.answer_lists} if self.answer_lists != "refuse" else {}),
            **({"several_images": "keep"} if self.several_images == "keep" else {}),
            **({"exclude": sorted(self.exclude.items())} if self.exclude else {}),
            **({"caption_key": self.caption_key} if self.caption_key else {}),
        }


def check_several(several_images: str) -> None:
    """Check the value of `data.several_images`.

    Raises:
        UserError: it is unknown.
    """
    if several_images not in (known := get_args(SeveralImages)):
        raise UserError(
            f"data.several_images {several_images!r} is unknown; choose from {', '.join(known)}"
        )


def is_plain_file(path: Path) -> bool:
    """Whether a path is an annotation file of JSON, and no table, package or folder."""
    return path.is_file() and not is_csv(path) and path.name != RECORDS


def file_task(
    entries: Iterator[Entry], path: Path, task_key: str
) -> tuple[str | None, Iterator[Entry]]:
    """The file's name as the task of all its records, where none of the first names one.

    Args:
        entries: of the file.
        path: of it.
        task_key: field that names a record's task.

    Raises:
        UserError: the field is another than the default one, and none of the first has it.
    """
    first = list(islice(entries, FIRST))
    stream = chain(first, entries)
    records = [entry.record for entry in first if entry.record]
    if not records or any(record.get(task_key) not in (None, "") for record in records):
        return None, stream
    if task_key == TASK_KEY:
        return path.stem, stream
    raise UserError(
        f"data.task_key is {task_key!r}, and none of the first {len(records)} records of {path} has "
        f"this field; their fields are {', '.join(sorted(records[0]))[:200]}: set data.task_key to one "
        "of these, or set data.task_files or data.task_rules"
    )


def _digest(path: Path, follow_links: bool) -> str:
    if path.is_file():
        return digest_file(path)
    files = (path / record["image"] for record in folder_records(path, None, follow_links))
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
    """Files and folders that the configuration names, each with its task if that is given."""
    if task_files:
        return [(task, Path(name).expanduser()) for task, name in task_files.items()]
    names = [annotations] if isinstance(annotations, str) else list(annotations)
    return [(None, Path(name).expanduser()) for name in names]


def refuse_missing(key: str, paths: Sequence[Path]) -> None:
    """Refuse the value of a key whose files or folders do not exist.

    Raises:
        UserError: some are missing; the message names them all.
    """
    if missing := [str(path) for path in paths if not is_there(path)]:
        raise UserError(
            f"{key} {', '.join(missing)}: no such file or folder; correct the path, which starts from "
            f"{Path.cwd()} where it is relative"
        )


def is_there(path: Path) -> bool:
    """Return whether a path exists; one that is too long for the file system does not."""
    try:
        return path.exists()
    except OSError:
        return False


def _packages(
    files: Sequence[tuple[str | None, Path]],
    task_key: str,
    needs_task: bool,
    answer_lists: AnswerLists,
    caption_key: str | None,
) -> list[Package]:
    """The packages among these; either all are, or none."""
    settings = needs_task, answer_lists, caption_key
    found = [Package(path, packed_files(path), task_key, task, *settings) for task, path in files]
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
    task_key: str = TASK_KEY,
    task_files: dict[str, str] | None = None,
    task_rules: Sequence[TaskRule] | None = None,
    verify: Verify = "full",
    max_pixels: int = MAX_PIXELS,
    pixels: Pixels = "as_shown",
    workers: int = 0,
    text_only: bool = False,
    follow_links: bool = False,
    answer_lists: AnswerLists = "refuse",
    several_images: SeveralImages = "refuse",
    exclude: str | None = None,
    caption_key: str | None = None,
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
        follow_links: see `PoolSource`.
        answer_lists: see `PoolSource`.
        several_images: see `PoolSource`.
        exclude: file with the uids of records that are left out; see `read_excluded`.
        caption_key: see `PoolSource`.
        unpacked: folder for packed images; see `unpack`.
        track: shows the progress of unpacking.

    Raises:
        UserError: a file or folder does not exist, or is not what it seems to be.
    """
    files = listed(annotations, task_files)
    key = "data.task_files" if task_files else "data.annotations"
    refuse_missing(key, [path for _, path in files])
    needs_task = not task_files and not task_rules
    others = Counter[str]()
    if packages := _packages(files, task_key, needs_task, answer_lists, caption_key):
        if image_root is not None:
            raise UserError(
                f"{key} {files[0][1]} holds its images itself; leave out data.image_root"
            )
        if unpacked is None:
            raise UserError(f"{key} {files[0][1]} is to be unpacked; say where: unpacked=FOLDER")
        others = sum(map(beside, packages), others)
        place = unpack(packages, unpacked, track)
        files, image_root = [(None, place / RECORDS)], str(place / IMAGES)
    for _, path in files:
        refuse_foreign(key, path)
        if needs_task and is_csv(path):
            check_task(path, task_key)
    first = files[0][1]
    root = (
        Path(image_root).expanduser() if image_root else (first if first.is_dir() else first.parent)
    )
    if not root.is_dir():
        raise UserError(
            f"data.image_root {root}: no such folder; set it to the folder that image paths start from"
        )
    rules = () if task_files else tuple(task_rules or ())
    look = verify, max_pixels, pixels, workers
    left_out = read_excluded(Path(exclude).expanduser()) if exclude else {}
    forms = answer_lists, several_images, left_out, caption_key
    return PoolSource(
        tuple(files), root, task_key, rules, *look, text_only, follow_links, others, *forms
    )
