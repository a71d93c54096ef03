"""`clip_score`: image and caption are near each other for a CLIP model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from presel_lightning.filters.rule import Names, Rows
from presel_lightning.filters.scored import Scored, as_scores, rounded


@dataclass(frozen=True)
class ClipScore(Scored):
    """CLIP similarity from a threshold on, or the best fraction of the pool.

    `ties: published` takes the score behind the fraction as threshold, so that it keeps at least
    one row more than asked for, and all ties.

    Source: DataComp, `clip_score`: L/14 by the fraction 0.3, B/32 by the threshold 0.25.

    Args:
        threshold: similarities from this on are kept.
        fraction: or this part of the pool.
        ties: `exact` or `published`.
        arch: CLIP model: `l14` or `b32`.
        column: of the score, instead of `clip_ARCH_similarity_score`.
    """

    arch: Literal["l14", "b32"] = "l14"
    column: str | None = None

    @property
    def names(self) -> Names:
        """Of the column."""
        return (self.column or f"clip_{self.arch}_similarity_score",)

    def columns(self) -> Sequence[Names]:
        """The similarity."""
        return (self.names,)

    def scores(self, rows: Rows) -> np.ndarray:
        """The similarity."""
        return as_scores(rows.column(self.names), self.names)

    def cut(self, rows: Rows) -> float:
        """The threshold in the precision of the column."""
        return rounded(float(self.threshold or 0), rows.column(self.names))
