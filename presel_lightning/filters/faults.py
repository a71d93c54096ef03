"""What is wrong with a file or a row of metadata: a stop, or a line in a list."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from presel_lightning.errors import UserError

Faults = Literal["stop", "skip"]

CURES = {
    "unreadable": "mend or remove it",
    "missing_column": "name files that have it in --scores",
    "missing_text": "have it in the metadata, or in files beside it; --scores are numbers alone",
    "wrong_type": "captions and status are texts, scores and sizes are numbers",
    "malformed_uid": "a uid is 32 hex digits",
    "corrupt_tar": "download it again",
    "no_image": "a sample needs an image, such as .jpg",
    "no_uid": "a sample needs a .json with `uid`",
}


class Fault(UserError):
    """A fault of a file or a row.

    Args:
        path: of the file.
        problem: one of `CURES`.
        detail: what was found.
    """

    def __init__(self, path: str, problem: str, detail: str) -> None:
        super().__init__(
            f"{path}: {problem.replace('_', ' ')}: {detail}; {CURES[problem]}, or --faults skip "
            "lists it and goes on"
        )
        self.path, self.problem, self.detail = path, problem, detail

    def __reduce__(self) -> tuple[type[Fault], tuple[str, str, str]]:
        """As it came from another process."""
        return type(self), (self.path, self.problem, self.detail)


@dataclass
class Listed:
    """Faults that are listed, or the first of them raised."""

    faults: Faults = "stop"
    found: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, fault: Fault) -> None:
        """List a fault, or raise it."""
        if self.faults == "stop":
            raise fault
        self.found.append((fault.path, fault.problem, fault.detail))
