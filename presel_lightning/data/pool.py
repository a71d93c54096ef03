"""The pool as the rest of the library sees it: columns in memory, records on disk."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from presel_lightning.data.build import manifest_path, records_path
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
        has_instruction: (N,) whether somebody has written it.
        reference: (N,) whether it belongs to the reference split; nothing does at first.
        tasks: names of the tasks, sorted.
    """

    def __init__(self, out: Path, image_root: Path) -> None:
        self.image_root = Path(image_root)
        self._path = records_path(out)
        table = pq.read_table(manifest_path(out))
        for name in ("uid", "id", "image", "task"):
            setattr(self, name, np.array(table[name].to_pylist(), dtype=object))
        self.uid: np.ndarray
        self.id: np.ndarray
        self.image: np.ndarray
        self.task: np.ndarray
        self.n_turns: np.ndarray = table["n_turns"].to_numpy()
        self.has_instruction: np.ndarray = table["has_instruction"].to_numpy()
        self.n_words: np.ndarray = self._records["n_words"].to_numpy()
        self.reference = np.zeros(len(table), dtype=bool)
        self.tasks: tuple[str, ...] = tuple(sorted(set(self.task)))

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.uid)

    def __getstate__(self) -> dict[str, Any]:
        """What goes to another process: not the memory map, which it opens itself."""
        return {name: value for name, value in self.__dict__.items() if name != "_records"}

    @cached_property
    def _records(self) -> pa.Table:
        return pa.ipc.open_file(pa.memory_map(str(self._path))).read_all()

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
        wanted = np.array(list(uids), dtype="U32")
        known = self.uid.astype("U32")
        if not len(wanted):
            return np.empty(0, dtype=np.int64)
        places = np.searchsorted(known, wanted) % max(1, len(known))
        wrong = np.flatnonzero(known[places] != wanted)
        if len(wrong):
            raise UserError(
                f"uid {wanted[wrong[0]]} is not in the pool ({len(wrong)} unknown in all)"
            )
        return places

    def record(self, row: int) -> dict[str, Any]:
        """The record of a row, as the annotation file has it."""
        record: dict[str, Any] = json.loads(self._records["record"][int(row)].as_py())
        return record

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


def load_pool(out: Path, image_root: Path) -> Pool:
    """Open a pool that `build_pool` wrote.

    Args:
        out: run folder.
        image_root: folder that image paths are relative to.
    """
    return Pool(out, image_root)
