"""Append-only journal of answers, synced line by line."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any, Self

from presel_lightning.errors import UserError
from presel_lightning.run.line_file import LineFile

Conversation = list[dict[str, str]]
"""Turns in LLaVA form: `{"from": "human" | "gpt", "value": text}`."""


def read_answers(folder: Path) -> dict[str, Conversation]:
    """Read conversations by uid, read-only; an incomplete last line is ignored."""
    path = folder / "answers.jsonl"
    if not path.exists():
        return {}
    whole = path.read_bytes().rpartition(b"\n")[0].decode("utf-8")
    records = (json.loads(line) for line in whole.split("\n") if line)
    return {record["uid"]: record["conversations"] for record in records}


class Journal:
    """`answers.jsonl`: every answer received; the last one of a uid counts.

    Args:
        folder: `OUT/annotations`.

    Attributes:
        records: last line of each uid: uid, image, conversations, annotator, model, usage, cost.

    Raises:
        UserError: a line is not JSON, or not an answer.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._file = LineFile(folder / "answers.jsonl")
        self.records: dict[str, dict[str, Any]] = {}
        for number, line in enumerate(self._file.lines, start=1):
            try:
                record = json.loads(line)
                self.records[record["uid"]] = {"conversations": None, **record}
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{self._file.path}, line {number}: not an answer; remove the line"
                ) from error

    def __enter__(self) -> Self:
        """Return the open journal."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._file.close()

    def __contains__(self, uid: object) -> bool:
        """Return whether a sample has been answered."""
        return uid in self.records

    def __getitem__(self, uid: str) -> Conversation:
        """Return the answer of a sample."""
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
        """Store an answer durably. Thread-safe.

        Args:
            uid: uid of the sample.
            image: its path relative to the image root.
            conversations: its instruction, already validated.
            annotator: class name of the annotator.
            model: model that wrote it.
            usage: `prompt_tokens` and `completion_tokens`.
            cost: cost of the request.
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
        with self._lock:  # the last line of a uid counts, here as in the file
            self._file.append(json.dumps(record, ensure_ascii=False))
            self.records[uid] = record
