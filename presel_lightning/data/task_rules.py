"""Rules that tell the task of a record; the first that matches wins."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from presel_lightning.errors import UserError


@dataclass
class TaskRule:
    """Give a task to the records whose image path and first question match.

    A rule with neither pattern matches every record. A task is part of a sample's uid: where
    instructions are still to be written, tell tasks by `image` alone, as a rule on the question
    cannot match before there is one.

    Attributes:
        task: name of the task.
        image: regular expression searched for in the image path.
        question: regular expression searched for in the first human turn.
    """

    task: str
    image: str | None = None
    question: str | None = None

    def __post_init__(self) -> None:
        """Refuse patterns that are no regular expressions."""
        for pattern in (self.image, self.question):
            try:
                re.compile(pattern or "")
            except re.error as error:
                raise UserError(f"data.task_rules: bad pattern {pattern!r}: {error}") from error

    def matches(self, image: str, question: str) -> bool:
        """Whether both patterns are found; one that is not given always is."""
        return bool(re.search(self.image or "", image) and re.search(self.question or "", question))


def first_match(rules: Sequence[TaskRule], image: str, question: str) -> str | None:
    """Task of the first rule that matches a record; None where none does."""
    return next((rule.task for rule in rules if rule.matches(image, question)), None)
