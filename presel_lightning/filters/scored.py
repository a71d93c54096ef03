"""Rules that keep what has a high score: from a threshold on, or a fraction of the pool."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from presel_lightning.errors import UserError
from presel_lightning.filters.arrow import as_numpy
from presel_lightning.filters.columns import WrongType
from presel_lightning.filters.rule import UNKNOWN, Limit, Names, Rows, Rule, verdicts_of
from presel_lightning.filters.uids import scrambled
from presel_lightning.run.ranges import Fraction

Ties = Literal["exact", "published"]


@dataclass(frozen=True)
class Scored(Rule):
    """Base of the rules that compare a score with a threshold or keep the best of the pool.

    Args:
        threshold: scores from this on are kept.
        fraction: or this part of the pool, the highest scores first.
        ties: with `fraction`: `exact` keeps int(fraction * N) rows, of equal scores those whose
            scrambled uid is the smallest; `published` keeps what the published procedure keeps.
    """

    threshold: float | None = None
    fraction: Fraction | None = None
    ties: Ties = "exact"

    counts_all_rows: ClassVar[bool] = True
    """Whether the fraction is one of all rows, or of those with a score."""

    def __post_init__(self) -> None:
        """Refuse both or neither.

        Raises:
            UserError: not exactly one of threshold and fraction is given, or the threshold is none.
        """
        if (self.threshold is None) == (self.fraction is None):
            raise UserError("give either `threshold` or `fraction`")
        if not np.isfinite(self.threshold or 0):
            raise UserError(f"threshold: {self.threshold} is invalid; give a finite number")

    @abstractmethod
    def scores(self, rows: Rows) -> np.ndarray:
        """Score of each row, (N,) float32 or float64, NaN where there is none."""

    def population(self, rows: Rows) -> np.ndarray:
        """The scores that a fraction is one of; those of `scores`, unless a rule says otherwise."""
        return self.scores(rows)

    def verdicts(self, rows: Rows, limits: Mapping[Rule, Limit]) -> np.ndarray:
        """Whether the score of each row is high enough; unknown where there is none."""
        scores = self.scores(rows)
        if self.threshold is not None:
            kept = scores >= np.float64(self.cut(rows))
        else:
            limit = limits[self]
            score = np.float64(limit.score)  # never in the precision of the column
            kept = scores > score
            tied = np.flatnonzero(scores == score)
            kept[tied] = before(limit, rows.take(tied)) if len(tied) else False
        found = verdicts_of(kept)
        found[np.isnan(scores)] = UNKNOWN
        return found

    def cut(self, rows: Rows) -> float:
        """The threshold, in the precision of the scores."""
        del rows
        return float(self.threshold or 0)

    def all_ties_are_kept(self) -> bool:
        """Whether the published procedure keeps every row at the threshold, or draws among them."""
        return True


def before(limit: Limit, rows: Rows) -> np.ndarray:
    """Which of the rows that have the score of a limit are kept."""
    if limit.scrambled > 0xFFFF_FFFF_FFFF_FFFF:
        return np.ones(len(rows), bool)
    keys, last = scrambled(rows.uids), np.uint64(limit.scrambled)
    kept: np.ndarray = keys < last
    if rows.unit < limit.unit:
        return keys <= last
    if rows.unit == limit.unit:
        kept |= (keys == last) & (rows.numbers < limit.row)
    return kept


def as_scores(column: pa.Array, names: Names) -> np.ndarray:
    """A numeric column, NaN where it is null; 0.0 for -0.0.

    Args:
        column: (N,).
        names: what it is called.

    Returns:
        (N,) float32 of a column in half or single precision, float64 of any other.

    Raises:
        WrongType: it holds no numbers.
    """
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())
    if not pa.types.is_floating(column.type):
        try:
            column = pc.cast(column, pa.float64(), safe=False)
        except pa.ArrowException as error:
            raise WrongType(names, f"{column.type} ({str(error)[:100]})") from error
    scores: np.ndarray = as_numpy(column) + np.float32(0)
    if column.null_count:
        scores[as_numpy(column.is_null())] = np.nan
    return scores


def rounded(threshold: float, column: pa.Array) -> float:
    """A threshold in the precision of its column, as NumPy and pandas compare them."""
    if pa.types.is_float32(column.type):
        return float(np.float32(threshold))
    if pa.types.is_float16(column.type):
        return float(np.float16(threshold))
    return threshold
