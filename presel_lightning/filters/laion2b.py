"""`laion2b`: LAION-2B's rule, on metadata of DataComp."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from presel_lightning.filters.captions import per_text
from presel_lightning.filters.clip_score import ClipScore
from presel_lightning.filters.language import cld3_language
from presel_lightning.filters.rule import FAILS, TEXT, Limit, Names, Rows, Rule

THRESHOLD = 0.28


@dataclass(frozen=True)
class Laion2B(Rule):
    """Similarity for CLIP B/32 from 0.28 on, and a caption that is English for CLD3.

    Source: DataComp, `laion2b`.
    """

    def columns(self) -> Sequence[Names]:
        """Caption and similarity."""
        return TEXT, *CLIP.columns()

    def verdicts(self, rows: Rows, limits: Mapping[Rule, Limit]) -> np.ndarray:
        """Similarity first, then the language."""
        found = CLIP.verdicts(rows, limits)
        left = np.flatnonzero(found != FAILS)
        name = cld3_language()
        english = per_text(rows.take(left).column(TEXT), lambda text: name(text) == "en")
        found[left] = np.minimum(found[left], english)
        return found


CLIP = ClipScore(threshold=THRESHOLD, arch="b32")
