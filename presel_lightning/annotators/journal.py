"""Answers on disk, line by line, so that nothing that was written or paid for is lost."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any, Self

from presel_lightning.errors import UserError

Conversation = list[dict[str, str]]
"""Turns in LLaVA form: `{"from": "human" | "gpt", "value": text}`."""


class LineFile:
    """A text file that only grows, by whole lines that are synced one by one.

    A last line that a killed process left without its end is cut off on opening.

    Args:
        path: the file; made where it is missing.
        heading: first line of a new file.

    Attributes:
        lines: what it held when it was opened, without the heading.
    """

    def __init__(self, path: Path, heading: str | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = threading.Lock()
        self._handle = path.open("a+b")
        self._handle.seek(0)
        content = self._handle.read()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            self._handle.truncate(len(whole))
        # not splitlines: answers may hold other characters that it takes for ends of lines
        self.lines = whole.decode("utf-8").split("\n")[:-1]
        if heading is not None and not self.lines:
            self.append(heading)
        self.lines = self.lines[heading is not None :]
        _sync_folder(path.parent)

    def append(self, line: str) -> None:
        """Write a line; it is on the disk when this returns. Any thread may call it."""
        with self._lock:
            self._handle.write(line.encode("utf-8") + b"\n")
            self._handle.flush()
            os.fsync(self._handle.fileno())

    def close(self) -> None:
        """Let go of the file."""
        self._handle.close()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_answers(folder: Path) -> dict[str, Conversation]:
    """Conversations by uid, without opening the file for writing; a line that is not whole waits."""
    path = folder / "answers.jsonl"
    if not path.exists():
        return {}
    whole = path.read_bytes().rpartition(b"\n")[0].decode("utf-8")
    records = (json.loads(line) for line in whole.split("\n") if line)
    return {record["uid"]: record["conversations"] for record in records}


class Journal:
    """`answers.jsonl`: every answer that ever came in; the last of a uid counts.

    Args:
        folder: `OUT/annotations`.

    Attributes:
        records: last line of each uid: uid, image, conversations, annotator, model, usage, cost.

    Raises:
        UserError: a line is not JSON, or no answer.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = LineFile(folder / "answers.jsonl")
        self.records: dict[str, dict[str, Any]] = {}
        for number, line in enumerate(self._file.lines, start=1):
            try:
                record = json.loads(line)
                self.records[record["uid"]] = {"conversations": None, **record}
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{self._file.path}, line {number}: no answer; take the line out"
                ) from error

    def __enter__(self) -> Self:
        """Open until the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._file.close()

    def __contains__(self, uid: object) -> bool:
        """Whether a sample has been answered."""
        return uid in self.records

    def __getitem__(self, uid: str) -> Conversation:
        """The answer of a sample."""
        conversation: Conversation = self.records[uid]["conversations"]
        return conversation

    def add(
        self,
        uid: str,
        image: str,
        conversations: Conversation,
        annotator: str,
        *,
        model: str | None = None,
        usage: dict[str, int] | None = None,
        cost: float | None = None,
    ) -> None:
        """Keep an answer for good. Any thread may call it.

        Args:
            uid: of the sample.
            image: its path relative to the image root.
            conversations: its instruction, already checked.
            annotator: name of the class that had it written.
            model: that wrote it.
            usage: `prompt_tokens` and `completion_tokens`.
            cost: what was paid for it.
        """
        record = {
            "uid": uid,
            "image": image,
            "conversations": conversations,
            "annotator": annotator,
            "model": model,
            "usage": usage,
            "cost": cost,
        }
        self._file.append(json.dumps(record, ensure_ascii=False))
        self.records[uid] = record
