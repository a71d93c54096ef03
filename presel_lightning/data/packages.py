"""Which annotations are packages of images, and what they hold."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from presel_lightning.data.fields import Packed
from presel_lightning.data.tables import table_samples
from presel_lightning.data.tars import tar_samples
from presel_lightning.data.values import AnswerLists
from presel_lightning.errors import UserError
from presel_lightning.run.files import read_json

SUFFIXES = (".arrow", ".parquet", ".tar")
SHARD = re.compile(r"(.+?)-\d{5}-of-\d{5}")
"""Name of a file of a dataset on the hub: split, number, number of all."""


@dataclass(frozen=True)
class Package:
    """A file or folder that images are packed in.

    Attributes:
        path: of it.
        files: what it consists of, in order, all of one form.
        task_key: field that is to name the task.
        task: the task of all samples, where the configuration names it.
        needs_task: whether nothing but `task_key` names the task.
        answer_lists: what becomes of an answer that is a list.
        caption_key: field of a sample that holds a caption; see `captioned`.
    """

    path: Path
    files: tuple[Path, ...]
    task_key: str
    task: str | None = None
    needs_task: bool = True
    answer_lists: AnswerLists = "refuse"
    caption_key: str | None = None

    def samples(self) -> Iterator[Packed]:
        """Every sample, one at a time."""
        if self.files[0].suffix == ".tar":
            for file in self.files:
                yield from tar_samples(file, self.task_key)
        else:
            yield from table_samples(self.files, self.task_key, self.needs_task)

    def facts(self) -> Iterator[str]:
        """What defines the samples: settings, and name, size and mtime of every file."""
        settings = f"{self.task_key} {self.task} {self.needs_task} {self.answer_lists}"
        settings += f" caption {self.caption_key}" if self.caption_key else ""
        yield f"{self.path.absolute().name} {settings}"
        for file in self.files:
            stat = file.stat()
            yield f"{file.name} {stat.st_size} {stat.st_mtime_ns}"


def packed_files(path: Path) -> tuple[Path, ...]:
    """Files of a package, sorted by name; none where a path is no package.

    A package is a .tar or .parquet file, or a folder with .tar, .parquet or .arrow files and
    without folders; one with folders in it is a folder of folders of images. A .parquet file beside
    a .tar file of its name is a downloader's table about it (img2dataset), and is passed over.

    Raises:
        UserError: a folder holds several splits or several of these forms.
    """
    if path.is_file():
        return (path,) if path.suffix in SUFFIXES else ()
    if (path / "dataset_dict.json").is_file():
        splits = [str(path / split) for split in read_json(path / "dataset_dict.json")["splits"]]
        raise UserError(
            f"data.annotations {path} holds several splits; give the folder of one: "
            f"{', '.join(splits)}"
        )
    entries = [entry for entry in sorted(path.iterdir()) if not entry.name.startswith(".")]
    tars = {entry.stem for entry in entries if entry.suffix == ".tar"}
    files = tuple(
        entry
        for entry in entries
        if entry.suffix in SUFFIXES and not (entry.suffix == ".parquet" and entry.stem in tars)
    )
    if not files or any(entry.is_dir() for entry in entries):
        return ()
    forms = sorted({file.suffix for file in files})
    if len(forms) > 1:
        raise UserError(
            f"data.annotations {path} holds {' and '.join(forms)} files; keep one form in a folder"
        )
    _refuse_splits(path, files)
    return files


def beside(package: Package) -> Counter[str]:
    """Files in a package's folder that are no part of it, by kind."""
    if package.path.is_file():
        return Counter()
    others = (entry for entry in package.path.iterdir() if entry not in package.files)
    return Counter("hidden" if o.name.startswith(".") else o.suffix or o.name for o in others)


def _refuse_splits(path: Path, files: tuple[Path, ...]) -> None:
    """Refuse a folder as the hub has it, with the shards of several splits."""
    shards = [SHARD.fullmatch(file.stem) for file in files]
    splits = sorted({shard[1] for shard in shards if shard})
    if len(splits) > 1:
        raise UserError(
            f"data.annotations {path} holds the splits {', '.join(splits)}; put the files of one "
            "into a folder of their own, or list them: [a.parquet, b.parquet]"
        )
