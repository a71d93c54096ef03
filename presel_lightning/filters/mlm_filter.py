"""`mlm_filter`: one of the four quality scores of MLM-Filter's judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa

from presel_lightning.filters.open_qwen2vl_basic import success_verdicts
from presel_lightning.filters.rule import STATUS, Limit, Names, Rows, Rule
from presel_lightning.filters.scored import Scored, as_scores

Metric = Literal[
    "image_text_matching",
    "object_detail_fulfillment",
    "caption_text_quality",
    "semantic_understanding",
]

LARGE = 1 << 53
"""Whole numbers up to this one are exact in float64."""


@dataclass(frozen=True)
class MlmFilter(Scored):
    """A score of MLM-Filter from a threshold on, or a fraction of the scored pairs.

    A score that is a text is read up to its first newline, without the commas and then the
    semicolons around it, by Python's `int`; where that fails there is none. Published thresholds:
    image_text_matching 66, object_detail_fulfillment 20, semantic_understanding 85.

    With a fraction and `ties: published`, pairs above the threshold are kept, and of those at it a
    share that is drawn by their uids. The published code counts only texts that `int` reads as
    they are, and so is done; its draws depend on the worker, ours do not.

    Source: MLM-Filter (arXiv 2403.02677); Open-Qwen2VL, `llava_*_score`.

    Args:
        threshold: scores from this on are kept.
        fraction: or this part of the pairs that have a score.
        ties: `exact` or `published`.
        metric: which of the four.
        needs_success: whether the `status` of img2dataset must be `success`.
        column: of the score, instead of `METRIC_score`.
    """

    metric: Metric = "semantic_understanding"
    needs_success: bool = True
    column: str | None = None

    counts_all_rows: ClassVar[bool] = False

    @property
    def names(self) -> Names:
        """Of the column."""
        own = (self.column,) if self.column else ()
        return (*own, f"{self.metric}_score", f"llava_{self.metric}_score")[: 1 if own else 2]

    def columns(self) -> Sequence[Names]:
        """Score and status."""
        return (self.names, STATUS) if self.needs_success else (self.names,)

    def scores(self, rows: Rows) -> np.ndarray:
        """The score."""
        return read_scores(rows.column(self.names), stripped, self.names)

    def population(self, rows: Rows) -> np.ndarray:
        """The score, where the published procedure counts it."""
        read = stripped if self.ties == "exact" else bare
        return read_scores(rows.column(self.names), read, self.names)

    def verdicts(self, rows: Rows, limits: Mapping[Rule, Limit]) -> np.ndarray:
        """Score and status."""
        found = super().verdicts(rows, limits)
        return np.minimum(found, success_verdicts(rows)) if self.needs_success else found

    def all_ties_are_kept(self) -> bool:
        """A share of them is drawn."""
        return False


def read_scores(column: pa.Array, read: Callable[[str], int | None], names: Names) -> np.ndarray:
    """Scores of a column of numbers or texts, (N,) float32 or float64, NaN where there is none."""
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return as_scores(column, names)
    coded = column.dictionary_encode()
    values = [read(text) for text in coded.dictionary.to_pylist()]
    table = np.array(
        [np.nan if value is None else max(-LARGE, min(value, LARGE)) for value in [*values, None]],
        np.float64,
    )
    codes = coded.indices.fill_null(len(values)).to_numpy(zero_copy_only=False)
    found: np.ndarray = table[codes]
    return found


def stripped(text: str) -> int | None:
    r"""The score before the first newline, without commas and semicolons around it.

    >>> [stripped(text) for text in ("85", "85\nA dog.", " 100", "10,", "N/A", "")]
    [85, 85, 100, 10, None, None]
    """
    return bare(text.split("\n")[0].strip(",").strip(";"))


def bare(text: str) -> int | None:
    """The score, if the text is nothing else."""
    try:
        return int(text)
    except ValueError:
        return None
