"""What the fields of a row or of a packed sample become in a LLaVA record."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from presel_lightning.data.conversation import IMAGE

MAX_IMAGE = 1 << 28
"""Bytes of a packed image."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A sample as it comes out of its package.

    Attributes:
        name: path that it is to have, without the ending; not to be trusted.
        record: in LLaVA form, but for the image.
        image: the bytes of the image file.
        fault: why the sample cannot be used.
        problem: kind of the fault, as `problems.csv` has it.
        file: name of the file that it comes from.
        number: of the sample in that file, from 1; of a tar with the key behind it.
    """

    name: str
    record: dict[str, Any] = field(default_factory=dict)
    image: bytes | None = None
    fault: str = ""
    problem: str = "not_unpacked"
    file: str = ""
    number: int | str = ""


def conversation(pairs: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """Questions and answers in LLaVA form; a pair of which neither is written is no turn.

    The image is put at the front of the first question, unless a question shows it already. What
    else is wrong, an empty answer say, is left as it is and becomes a problem of the pool.
    """
    said = [(question.strip(), answer.strip()) for question, answer in pairs]
    said = [pair for pair in said if any(pair)]
    if said and not any(IMAGE in question for question, _ in said):
        question, answer = said[0]
        said[0] = f"{IMAGE}\n{question}", answer
    turns = []
    for question, answer in said:
        turns.append({"from": "human", "value": question})
        turns.append({"from": "gpt", "value": answer})
    return turns
