"""The pool as the rest of the library sees it: columns in memory, records on disk."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from presel_lightning.data.build import SEVERAL, manifest_path, order_path, seen_path
from presel_lightning.data.conversation import parse
from presel_lightning.data.record_file import (
    RecordReader,
    digest16,
    digest_turns,
    read_facts,
    records_path,
)
from presel_lightning.data.resolver import as_on_disk
from presel_lightning.errors import UserError
from presel_lightning.records import Sample

Conversation = list[dict[str, str]]
"""Turns in LLaVA form: `{"from": "human" | "gpt", "value": text}`."""
CHANGED = (
    "reference",
    "earlier",
    "has_instruction",
    "in_file",
    "n_turns",
    "n_words",
    "turns_digest",
    "_answers",
)
"""What may differ from the files that a pool was opened from."""
COLUMNS = (
    "uid",
    "id",
    "image",
    "task",
    "n_turns",
    "n_words",
    "turns_digest",
    "image_digest",
    "has_system",
    "has_instruction",
    "in_file",
    "reference",
    "earlier",
    "_order",
)
"""What has an entry for each sample."""


class Pool:
    """Every sample that can be chosen, in the order of its uid.

    Args:
        out: run folder that `build_pool` wrote.
        image_root: folder that image paths are relative to.

    Attributes:
        uid: (N,) 32 hex digits.
        id: (N,) the record's own id, which may repeat.
        image: (N,) path relative to `image_root`; of several images that of the first.
        task: (N,) name of the task.
        n_turns: (N,) answers in the conversation, 0 where there is no instruction yet.
        n_words: (N,) words of the conversation.
        turns_digest: (N,) 16 bytes that name the conversation.
        image_digest: (N,) 16 bytes that name the content of the image file; of several images that
            of all, in order.
        has_system: (N,) whether its record brings a system prompt.
        has_instruction: (N,) whether somebody has written it.
        in_file: (N,) whether the annotation file holds it, to be seen by everyone.
        reference: (N,) whether it belongs to the reference split; nothing does at first.
        earlier: (N,) whether an earlier round selected it; none did at first.
        several: all images, in order, of the samples that have several, by uid.
        tasks: names of the tasks, sorted.
        sizes: samples of each task, those included that `without` leaves out.
    """

    several: Mapping[str, tuple[str, ...]] = MappingProxyType({})

    def __init__(self, out: Path, image_root: Path) -> None:
        self.out = Path(out)
        self.image_root = Path(image_root)
        table = pq.read_table(manifest_path(out))
        self.uid = _strings(table["uid"])
        self.id = _strings(table["id"])
        self.image = _shared_strings(table["image"])
        self.task = _shared_strings(table["task"])
        self.n_turns: np.ndarray = table["n_turns"].to_numpy()
        self.has_instruction: np.ndarray = table["has_instruction"].to_numpy()
        self.in_file = self.has_instruction
        self._answers: Mapping[str, Conversation] = {}
        self.reference = np.zeros(len(table), dtype=bool)
        self.earlier = np.zeros(len(table), dtype=bool)
        self.tasks: tuple[str, ...] = tuple(sorted(set(self.task)))
        self.sizes = dict(Counter(self.task.tolist()))
        self._kept: np.ndarray | None = None
        self._order: np.ndarray = np.load(order_path(out))
        facts = read_facts(records_path(out), ["n_words", "has_system", "turns"])
        self.has_system: np.ndarray = facts["has_system"].to_numpy()[self._order]
        self.n_words: np.ndarray = facts["n_words"].to_numpy()[self._order]
        self.turns_digest: np.ndarray = bytes16(facts["turns"])[self._order]
        self.image_digest: np.ndarray = self.digests_of(table["image"])
        self.several = _several(table)
        if self.several:
            shown = list(chain(*self.several.values()))
            digest = dict(zip(shown, self.digests_of(shown), strict=True))
            for uid, row in zip(self.several, self.rows(self.several), strict=True):
                contents = b"".join(digest[name].tobytes() for name in self.several[uid])
                self.image_digest[row] = np.frombuffer(digest16(contents), "V16")[0]

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.uid)

    def __repr__(self) -> str:
        """Sizes."""
        return f"Pool of {len(self):,} samples in {len(self.tasks):,} tasks"

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process opens the pool itself rather than have it sent."""
        state = {name: value for name, value in vars(self).items() if name in CHANGED}
        return _reopen, (self.out, self.image_root, self._kept, state)

    @cached_property
    def _records(self) -> RecordReader:
        return RecordReader(records_path(self.out))

    def with_reference(self, uids: Iterable[str]) -> Pool:
        """The same pool with another reference split."""
        return self._marked("reference", uids)

    def with_earlier(self, uids: Iterable[str]) -> Pool:
        """The same pool with the selection of other earlier rounds."""
        return self._marked("earlier", uids)

    def _marked(self, name: str, uids: Iterable[str]) -> Pool:
        other, marks = copy.copy(self), np.zeros(len(self), dtype=bool)
        marks[self.rows(uids)] = True
        setattr(other, name, marks)
        return other

    def without(self, left_out: np.ndarray) -> Pool:
        """The same pool without some samples; `tasks` and `sizes` remain.

        Args:
            left_out: (N,) bool.
        """
        other, kept = copy.copy(self), np.flatnonzero(~left_out)
        for name in COLUMNS:
            setattr(other, name, getattr(self, name)[kept])
        if self.several:
            left = set(other.uid)
            other.several = {uid: s for uid, s in self.several.items() if uid in left}
        other._kept = kept if self._kept is None else self._kept[kept]
        return other

    def parted(self, marked: np.ndarray) -> tuple[Pool, Pool]:
        """Two pools with tasks and sizes of their own: the marked samples, and the others.

        Args:
            marked: (N,) bool.
        """
        parts = self.without(~marked), self.without(marked)
        for part in parts:
            part.tasks = tuple(sorted(set(part.task)))
            part.sizes = dict(Counter(part.task.tolist()))
        return parts

    def hidden(self) -> Pool:
        """The same pool as if nobody had written an instruction; `reveal` shows single ones."""
        other = copy.copy(self)
        other.has_instruction = other.in_file = np.zeros(len(self), dtype=bool)
        for name in ("n_turns", "n_words", "turns_digest"):
            setattr(other, name, np.zeros_like(getattr(self, name)))
        return other

    def answered(self, conversations: Mapping[str, Conversation]) -> Pool:
        """The same pool with instructions that were written for some samples meanwhile.

        Args:
            conversations: turns in LLaVA form by uid. Those of other pools, and of samples whose
                instruction the annotation file holds, are passed over.
        """
        other = copy.copy(self)
        places = {uid: row for row, uid in enumerate(self.uid) if uid in conversations}
        rows = {uid: row for uid, row in places.items() if not self.in_file[row]}
        other._answers = {uid: conversations[uid] for uid in rows}
        for name in ("has_instruction", "n_turns", "n_words", "turns_digest"):
            setattr(other, name, getattr(self, name).copy())
        for uid, row in rows.items():
            images = list(self.images(row))
            turns = parse({"image": images, "conversations": conversations[uid]})
            other.has_instruction[row] = True
            other.n_turns[row] = len(turns)
            other.n_words[row] = sum(len(t["value"].split()) for t in conversations[uid])
            other.turns_digest[row] = np.frombuffer(digest_turns(turns), "V16")[0]
        return other

    def reveal(self, uid: str) -> Conversation | None:
        """The instruction that the annotation file of a hidden pool holds."""
        found: Conversation | None = self._records[int(self._order[self.rows([uid])[0]])].get(
            "conversations"
        )
        return found

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
            raise UserError(
                f"uid {wanted[wrong][0]} is not in the pool ({wrong.sum()} unknown); a uid names task, "
                "image path and id, so give the data.annotations, data.image_root and data.task_key "
                "that it was made with"
            )
        return places

    def record(self, row: int) -> dict[str, Any]:
        """The record of a row, as the annotation file has it."""
        record = self._records[int(self._order[row])]
        if self.in_file[row]:
            return record
        return {**record, "conversations": self._answers.get(self.uid[row], [])}

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

    def images(self, row: int) -> tuple[str, ...]:
        """Paths of a row's images, in order, relative to the image root."""
        return self.several.get(self.uid[row]) or (str(self.image[row]),)

    def digests_of(self, images: Sequence[str] | pa.ChunkedArray) -> np.ndarray:
        """16 bytes that name the content of each of some image files of the pool."""
        seen = pq.read_table(seen_path(self.out), columns=["image", "digest"])
        names = images if isinstance(images, pa.ChunkedArray) else pa.array(images, pa.string())
        place = pc.index_in(names, value_set=seen["image"])
        digests: np.ndarray = bytes16(seen["digest"])[place.to_numpy()]
        return digests

    def image_paths(self, row: int) -> list[Path]:
        """Files of a row's images, in order."""
        return [self.file(image) for image in self.images(row)]

    def image_path(self, row: int) -> Path:
        """File of a row's image, of several the first."""
        return self.file(str(self.image[row]))

    def file(self, image: str) -> Path:
        """File of an image of the pool."""
        return self.image_root / as_on_disk(str(self.image_root), image)


def _strings(column: pa.ChunkedArray) -> np.ndarray:
    return np.array(column.to_pylist(), dtype=object)


def _shared_strings(column: pa.ChunkedArray) -> np.ndarray:
    """Strings of which many are equal: one object for each value, not for each row."""
    encoded = column.combine_chunks().dictionary_encode()
    strings: np.ndarray = _strings(encoded.dictionary)[encoded.indices.to_numpy()]
    return strings


def _several(table: pa.Table) -> dict[str, tuple[str, ...]]:
    """Images of the samples that have several, by uid."""
    if SEVERAL.name not in table.column_names:
        return {}
    some = table.select(["uid", SEVERAL.name]).filter(pc.is_valid(table[SEVERAL.name]))
    names = some.to_pydict()
    return dict(zip(names["uid"], map(tuple, names[SEVERAL.name]), strict=True))


def bytes16(column: pa.ChunkedArray) -> np.ndarray:
    """Digests as they lie in memory: (N,) of 16 bytes each."""
    pieces = [np.frombuffer(c.buffers()[1], "V16", len(c), 16 * c.offset) for c in column.chunks]
    return np.concatenate([np.empty(0, "V16"), *pieces])


def _reopen(out: Path, image_root: Path, kept: np.ndarray | None, state: dict[str, Any]) -> Pool:
    pool = Pool(out, image_root)
    if kept is not None:
        left_out = np.ones(len(pool), dtype=bool)
        left_out[kept] = False
        pool = pool.without(left_out)
    vars(pool).update(state)
    return pool


def load_pool(out: Path, image_root: Path) -> Pool:
    """Open a pool that `build_pool` wrote.

    Args:
        out: run folder.
        image_root: folder that image paths are relative to.
    """
    return Pool(out, image_root)
