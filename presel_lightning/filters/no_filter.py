"""`no_filter`: every row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from presel_lightning.filters.rule import HOLDS, Limit, Names, Rows, Rule


@dataclass(frozen=True)
class NoFilter(Rule):
    """Every row; each once, however many score files lie beside it.

    Source: DataComp, `no_filter`.
    """

    def columns(self) -> Sequence[Names]:
        """None."""
        return ()

    def verdicts(self, rows: Rows, limits: Mapping[Rule, Limit]) -> np.ndarray:
        """All hold."""
        return np.full(len(rows), HOLDS, np.int8)
