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
        absent: why there is no image, where it may be a conversation about none.
        problem: kind of the fault, as `problems.csv` has it.
        file: name of the file that it comes from.
        number: of the sample in that file, from 1; of a tar with the key behind it.
        more: the bytes of the images behind the first, where it has several.
    """

    name: str
    record: dict[str, Any] = field(default_factory=dict)
    image: bytes | None = None
    fault: str = ""
    absent: str = ""
    problem: str = "not_unpacked"
    file: str = ""
    number: int | str = ""
    more: tuple[bytes, ...] = ()


def turns_of(pairs: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """Questions and answers in LLaVA form; a pair of which neither is written is no turn.

    What else is wrong, an empty answer say, is left as it is and becomes a problem of the pool.
    """
    turns = []
    for question, answer in ((question.strip(), answer.strip()) for question, answer in pairs):
        if question or answer:
            turns.append({"from": "human", "value": question})
            turns.append({"from": "gpt", "value": answer})
    return turns


def shown_first(turns: list[dict[str, Any]], n_images: int = 1) -> list[dict[str, Any]]:
    """The turns with the images at the front of the first question, unless one shows any already."""
    if not turns or any(IMAGE in turn["value"] for turn in turns if turn["from"] == "human"):
        return turns
    first, *rest = turns
    return [{**first, "value": f"{IMAGE}\n" * n_images + first["value"]}, *rest]


def conversation(pairs: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """Questions and answers about an image in LLaVA form; see `turns_of` and `shown_first`."""
    return shown_first(turns_of(pairs))
