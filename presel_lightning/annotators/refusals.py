"""Record of refused requests, which are not sent again."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from presel_lightning.annotators.base import AnswerProblem
from presel_lightning.errors import UserError
from presel_lightning.run.line_file import LineFile


class Refusals:
    """`refused.jsonl`: requests that were refused, or never got a readable reply.

    Args:
        folder: `OUT/annotations`.

    Attributes:
        known: problems by fingerprint of the request; see `Service.question`.

    Raises:
        UserError: a line cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.known: dict[str, AnswerProblem] = {}
        self._suspected: list[tuple[str, AnswerProblem]] = []
        self._file = LineFile(folder / "refused.jsonl")
        for number, line in enumerate(self._file.lines, start=1):
            try:
                record = json.loads(line)
                question = record.pop("question")
                self.known[question] = AnswerProblem(**record)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise UserError(
                    f"{self._file.path}, line {number}: cannot be read; remove it"
                ) from error

    def add(self, question: str, problem: AnswerProblem) -> None:
        """Store a refusal durably. Thread-safe."""
        self._file.append(json.dumps({**asdict(problem), "question": question}))
        self.known[question] = problem

    def suspect(self, question: str, problem: AnswerProblem) -> None:
        """Remember a request without a readable reply, until `confirm` stores it."""
        self._suspected.append((question, problem))

    def confirm(self) -> None:
        """Store the suspected requests: the fault is not the service's. Thread-safe."""
        while self._suspected:
            try:
                suspected = self._suspected.pop()
            except IndexError:  # another thread was faster
                return
            self.add(*suspected)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
