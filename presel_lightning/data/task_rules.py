"""Rules that tell the task of a record; the first that matches wins."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from presel_lightning.errors import UserError
from presel_lightning.run.ranges import NaturalNumber


@dataclass
class TaskRule:
    """Give a task to the records whose image path, first question and length match.

    A rule with no condition matches every record. A task is part of a sample's uid: where
    instructions are still to be written, tell tasks by `image` alone, as a rule on the question
    cannot match before there is one.

    Attributes:
        task: name of the task.
        image: regular expression searched for in the image path.
        question: regular expression searched for in the first human turn.
        min_turns: least number of questions in the conversation.
    """

    task: str
    image: str | None = None
    question: str | None = None
    min_turns: NaturalNumber = 0

    def __post_init__(self) -> None:
        """Refuse patterns that are no regular expressions."""
        for pattern in (self.image, self.question):
            try:
                re.compile(pattern or "")
            except re.error as error:
                raise UserError(f"data.task_rules: bad pattern {pattern!r}: {error}") from error

    def matches(self, image: str, question: str, n_turns: int = 0) -> bool:
        """Whether every condition holds; one that is not given always does."""
        found = re.search(self.image or "", image) and re.search(self.question or "", question)
        return bool(found) and n_turns >= self.min_turns


def first_match(
    rules: Sequence[TaskRule], image: str, question: str, n_turns: int = 0
) -> str | None:
    """Task of the first rule that matches a record; None where none does."""
    return next((rule.task for rule in rules if rule.matches(image, question, n_turns)), None)
