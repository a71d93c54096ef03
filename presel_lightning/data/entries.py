"""What readers of annotations hand on: a record, where it stands, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

Record = dict[str, Any]

MAX_RECORD = 1 << 24
"""Characters of a record as JSON."""
MAX_DEPTH = 100
"""Objects and lists inside each other; writers of JSON end at a few hundred."""


class Fault(NamedTuple):
    """Why a record cannot be used.

    Attributes:
        problem: its kind, as `problems.csv` has it.
        detail: what exactly.
    """

    problem: str
    detail: str


@dataclass(slots=True)
class Entry:
    """One record of an annotation file, or what could be read of it.

    Attributes:
        record: the record; of a faulty one the fields that are certain, often none.
        number: of the record in its file, from 1; of a tar also the key of the sample.
        fault: why it cannot be used.
        unit: what `number` counts, `record` or `line`.
        file: name of the file.
        task: of the record, where it is known.
    """

    record: Record
    number: int | str
    fault: Fault | None = None
    unit: str = "record"
    file: str = ""
    task: str | None = None


def is_deep(value: object) -> bool:
    """Whether a JSON value has more than `MAX_DEPTH` levels."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            child
            for parent in level
            if isinstance(parent, dict | list)
            for child in (parent.values() if isinstance(parent, dict) else parent)
        ]
        if not level:
            return False
    return True
