"""`open_qwen2vl_basic`: an image that was fetched, neither tiny nor narrow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from presel_lightning.filters.basic_filter import image_verdicts
from presel_lightning.filters.rule import (
    HEIGHT,
    STATUS,
    WIDTH,
    Limit,
    Names,
    Rows,
    Rule,
    both,
    verdicts_of,
)

MIN_SIDE, MAX_ASPECT = 10, 4.0


@dataclass(frozen=True)
class OpenQwen2VLBasic(Rule):
    """min(w, h) >= 10, max / min <= 4, and `status` is `success`.

    Source: Open-Qwen2VL, the basic filter as it is executed: what its code computes of captions
    does not enter its result.
    """

    def columns(self) -> Sequence[Names]:
        """Width, height, status."""
        return WIDTH, HEIGHT, STATUS

    def verdicts(self, rows: Rows, limits: Mapping[Rule, Limit]) -> np.ndarray:
        """Image and status."""
        return both(image_verdicts(rows, MIN_SIDE, MAX_ASPECT), success_verdicts(rows))


def success_verdicts(rows: Rows) -> np.ndarray:
    """Whether img2dataset fetched the image; a null status is unknown."""
    return verdicts_of(pc.equal(rows.column(STATUS), "success"))
