"""Instructions of a run's samples, read one by one as they are asked for."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from presel_lightning.annotators.journal import Conversation, read_answers
from presel_lightning.data.build import manifest_path, order_path
from presel_lightning.data.conversation import without_image_token
from presel_lightning.data.record_file import RecordReader, records_path


class Conversations:
    """Questions and answers by uid: those of the annotation file, and what annotators wrote.

    Where the instructions of the annotation file are hidden (`FromPool`), only those that were
    revealed are read.

    Args:
        out: run folder.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.written: dict[str, Conversation] = read_answers(out / "annotations")

    @cached_property
    def _records(self) -> tuple[np.ndarray, np.ndarray, RecordReader] | None:
        """Uids in the order of the pool, the record of each, and the records."""
        files = manifest_path(self.out), order_path(self.out), records_path(self.out)
        hidden = (self.out / "annotations" / "access.jsonl").exists()
        if hidden or not all(file.is_file() for file in files):
            return None
        uids = pq.read_table(files[0], columns=["uid"])["uid"].to_pylist()
        return np.array(uids, dtype=object), np.load(files[1]), RecordReader(files[2])

    def of_file(self, uid: str) -> Any:  # noqa: ANN401 - any JSON value
        """Return the instruction in the annotation file; None where there is none, or it is hidden."""
        if self._records is None:
            return None
        uids, order, records = self._records
        row = int(np.searchsorted(uids, uid))
        if row == len(uids) or uids[row] != uid:
            return None
        return records[int(order[row])].get("conversations") or None

    def turns(self, uid: str) -> list[tuple[str, str]]:
        """Return question and answer of each turn; empty where there is no instruction yet."""
        return turns_of(self.of_file(uid) or self.written.get(uid) or [])


def turns_of(conversation: Conversation) -> list[tuple[str, str]]:
    """Return question, without the places of images, and answer of each turn."""
    texts = [str(turn["value"]) for turn in conversation]
    questions = [without_image_token(text).strip() for text in texts[::2]]
    return list(zip(questions, texts[1::2], strict=True))
