"""What a model would not answer, remembered so that it is neither asked nor paid for again."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from presel_lightning.annotators.base import AnswerProblem
from presel_lightning.annotators.journal import LineFile
from presel_lightning.errors import UserError


class Refusals:
    """`refused.jsonl`: what was refused, or never answered in the form that was asked for.

    Args:
        folder: `OUT/annotations`.

    Attributes:
        known: by what was asked; see `Service.question`.

    Raises:
        UserError: a line cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.known: dict[str, AnswerProblem] = {}
        self._file = LineFile(folder / "refused.jsonl")
        for number, line in enumerate(self._file.lines, start=1):
            try:
                record = json.loads(line)
                question = record.pop("question")
                self.known[question] = AnswerProblem(**record)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise UserError(
                    f"{self._file.path}, line {number}: cannot be read; take it out"
                ) from error

    def add(self, question: str, problem: AnswerProblem) -> None:
        """Remember for good. Any thread may call it."""
        self._file.append(json.dumps({**asdict(problem), "question": question}))
        self.known[question] = problem

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
