"""The pool as the rest of the library sees it: columns in memory, records on disk."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from presel_lightning.data.build import (
    RECORDS,
    RecordReader,
    manifest_path,
    order_path,
    records_path,
    seen_path,
)
from presel_lightning.data.conversation import parse
from presel_lightning.errors import UserError
from presel_lightning.records import Sample


class Pool:
    """Every sample that can be chosen, in the order of its uid.

    Args:
        out: run folder that `build_pool` wrote.
        image_root: folder that image paths are relative to.

    Attributes:
        uid: (N,) 32 hex digits.
        id: (N,) the record's own id, which may repeat.
        image: (N,) path relative to `image_root`.
        task: (N,) name of the task.
        n_turns: (N,) answers in the conversation, 0 where there is no instruction yet.
        n_words: (N,) words of the conversation.
        image_bytes: (N,) size of the image file when it was looked at.
        has_instruction: (N,) whether somebody has written it.
        reference: (N,) whether it belongs to the reference split; nothing does at first.
        tasks: names of the tasks, sorted.
    """

    def __init__(self, out: Path, image_root: Path) -> None:
        self.out = Path(out)
        self.image_root = Path(image_root)
        table = pq.read_table(manifest_path(out))
        self.uid = _strings(table["uid"])
        self.id = _strings(table["id"])
        self.image = _strings(table["image"])
        self.task = _strings(table["task"])
        self.n_turns: np.ndarray = table["n_turns"].to_numpy()
        self.has_instruction: np.ndarray = table["has_instruction"].to_numpy()
        self.reference = np.zeros(len(table), dtype=bool)
        self.tasks: tuple[str, ...] = tuple(sorted(set(self.task)))
        self._order: np.ndarray = np.load(order_path(out))
        self.n_words = _column(records_path(out), "n_words")[self._order]
        seen = pq.read_table(seen_path(out), columns=["image", "size"])
        sizes = dict(zip(seen["image"].to_pylist(), seen["size"].to_pylist(), strict=True))
        self.image_bytes = np.array([sizes[image] for image in self.image], dtype=np.int64)

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.uid)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process opens the pool itself rather than have it sent."""
        return _reopen, (self.out, self.image_root, np.flatnonzero(self.reference))

    @cached_property
    def _records(self) -> RecordReader:
        return RecordReader(records_path(self.out))

    def with_reference(self, uids: Iterable[str]) -> Pool:
        """The same pool with another reference split."""
        other = copy.copy(self)
        other.reference = np.zeros(len(self), dtype=bool)
        other.reference[self.rows(uids)] = True
        return other

    def task_rows(self, task: str) -> np.ndarray:
        """Row numbers of a task."""
        return np.flatnonzero(self.task == task)

    def rows(self, uids: Iterable[str]) -> np.ndarray:
        """Row numbers of some uids, in their order.

        Raises:
            UserError: a uid is not in the pool.
        """
        wanted = np.array(list(uids), dtype=object)
        places = np.searchsorted(self.uid, wanted)
        places[places == len(self)] = 0
        wrong = self.uid[places] != wanted if len(self) else np.ones(len(wanted), dtype=bool)
        if wrong.any():
            raise UserError(f"uid {wanted[wrong][0]} is not in the pool ({wrong.sum()} unknown)")
        return places

    def record(self, row: int) -> dict[str, Any]:
        """The record of a row, as the annotation file has it."""
        return self._records[int(self._order[row])]

    def sample(self, row: int) -> Sample:
        """One sample with its turns."""
        record = self.record(row)
        return Sample(
            uid=self.uid[row],
            id=self.id[row],
            image=self.image[row],
            task=self.task[row],
            turns=parse(record),
            record=record,
        )

    def image_path(self, row: int) -> Path:
        """File of a row's image."""
        return self.image_root / str(self.image[row])


def _strings(column: pa.ChunkedArray) -> np.ndarray:
    return np.array(column.to_pylist(), dtype=object)


def _column(path: Path, name: str) -> np.ndarray:
    """One column of the records, without the others."""
    number = RECORDS.get_field_index(name)
    options = pa.ipc.IpcReadOptions(included_fields=[number])
    with pa.OSFile(str(path)) as file:
        column: np.ndarray = pa.ipc.open_file(file, options=options).read_all()[name].to_numpy()
        return column


def _reopen(out: Path, image_root: Path, reference: np.ndarray) -> Pool:
    pool = Pool(out, image_root)
    pool.reference[reference] = True
    return pool


def load_pool(out: Path, image_root: Path) -> Pool:
    """Open a pool that `build_pool` wrote.

    Args:
        out: run folder.
        image_root: folder that image paths are relative to.
    """
    return Pool(out, image_root)
