"""Samples whose answers `data.max_length` cuts off, and those that it leaves nothing of to learn from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jinja2 import TemplateError

from presel_lightning.data.pool import Pool
from presel_lightning.data.texts import Texts
from presel_lightning.errors import UserError
from presel_lightning.loading.encoder import Files, SampleEncoder
from presel_lightning.records import Turn

WORST = 3
"""Number of samples that a notice names."""


class Item(NamedTuple):
    """A conversation with the files of its images; a text-only one has none."""

    name: str
    turns: Sequence[Turn]
    image: Files | None


class Cut(NamedTuple):
    """Answer tokens of a sample that are kept, of those that were written.

    Attributes:
        place: of the sample among those that were examined.
    """

    place: int
    name: str
    kept: int
    written: int


def truncated(encoder: SampleEncoder, items: Iterable[Item]) -> list[Cut]:
    """The items whose answers are cut off, those with the smallest part left first.

    Raises:
        UserError: a conversation cannot be encoded; the message names it.
    """
    found = []
    for place, item in enumerate(items):
        try:
            cut = encoder.cut(item.turns, item.image)
        except (UserError, TemplateError) as error:
            raise UserError(f"sample {item.name}: {' '.join(str(error).split())}") from error
        if cut is not None and cut[0] < cut[1]:
            found.append(Cut(place, item.name, *cut))
    return sorted(found, key=lambda cut: (cut.kept / cut.written, cut.kept - cut.written))


def notice(cuts: Sequence[Cut], n: int, max_length: int) -> list[str]:
    """Say how many of n samples are cut off, and which the worst are; nothing where none is."""
    if not cuts:
        return []
    empty = sum(cut.kept == 0 for cut in cuts)
    named = ", ".join(f"{cut.name} ({cut.kept} of {cut.written})" for cut in cuts[:WORST])
    left = f"{empty} of them keep no answer token and are not trained on; " if empty else ""
    said = (
        f"data.max_length {max_length} cuts off answers of {len(cuts)} of {n} samples, worst by answer "
        f"tokens kept: {named}; {left}raise it"
    )
    return [said]


def without_answer(encoder: SampleEncoder, pool: Pool, rows: np.ndarray) -> np.ndarray:
    """Which of these rows `max_length` leaves no answer token of: (n,) of bool.

    Raises:
        UserError: that is all of them.
    """
    empty = [cut.place for cut in truncated(encoder, items_of(pool, rows)) if cut.kept == 0]
    if empty and len(empty) == len(rows):
        raise UserError(
            f"data.max_length leaves no answer token in any of {len(rows)} samples; raise it"
        )
    return np.isin(np.arange(len(rows)), empty)


def texts_without_answer(encoder: SampleEncoder, texts: Texts) -> np.ndarray:
    """Which text-only records `max_length` leaves no answer token of: (T,) of bool."""
    empty = [cut.place for cut in truncated(encoder, text_items(texts)) if cut.kept == 0]
    return np.isin(np.arange(len(texts)), empty)


def text_items(texts: Texts) -> Iterator[Item]:
    """Text-only records, one at a time."""
    for row in range(len(texts)):
        yield Item(f"text-only record {row + 1}", texts.turns(row), None)


def items_of(pool: Pool, rows: np.ndarray) -> Iterator[Item]:
    """Samples of the pool, one at a time."""
    for row in map(int, rows):
        name = str(pool.id[row] or pool.uid[row])
        yield Item(name, pool.sample(row).turns, pool.image_paths(row))
