"""Selection of the highest scores of the pool, where some samples have no score."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Literal

import numpy as np
from scipy.stats import spearmanr

from presel_lightning.data.pool import Pool
from presel_lightning.errors import UserError
from presel_lightning.records import Selection
from presel_lightning.selectors.base import Selector, selection_of
from presel_lightning.signals import Signals, TokenLoss

Keep = Literal["highest", "middle", "lowest"]
"""Which scores are selected first."""


class ScoreSelector(Selector):
    """Base class: select the samples with the highest scores of the whole pool.

    A sample may have no score (NaN): it has no instruction, or a loss that is not finite. Such
    samples come last, by uid, and a warning counts them.
    """

    reason = "high score"

    @abstractmethod
    def score(self, pool: Pool, signals: Signals, *, seed: int) -> np.ndarray:
        """Compute the score of every sample, (N,); higher is kept first, NaN where there is none."""

    def select(self, pool: Pool, signals: Signals, budget: int, *, seed: int) -> Selection:
        """Select the `budget` highest scores outside the reference split; ties by uid."""
        score = self.score(pool, signals, seed=seed)
        order = scored_first(pool, score)
        selection = select_in_order(pool, order[:budget], order, score, self.reason)
        return with_facts(selection, pool, signals, {"score": score})


def ordered_by(values: np.ndarray, keep: Keep, key: str) -> np.ndarray:
    """Turn a measurement (N,) into a score, higher = keep; NaN remains.

    `middle` is minus the distance in ranks to the median, so that the middle of the distribution
    is selected first.

    Raises:
        UserError: `keep` is unknown.
    """
    if keep == "highest":
        return values.astype(np.float64)
    if keep == "lowest":
        return -values.astype(np.float64)
    if keep != "middle":
        raise UserError(f"{key} {keep!r} is unknown; choose from highest, middle, lowest")
    known = np.isfinite(values)
    score = np.full(len(values), np.nan)
    order = np.argsort(values[known], kind="stable")
    rank = np.empty(len(order))
    rank[order] = np.arange(len(order))
    score[known] = -np.abs(rank - (len(order) - 1) / 2)
    return score


def scored_first(pool: Pool, score: np.ndarray) -> np.ndarray:
    """Order the rows outside the reference split: by descending score, then those without one.

    Ties go by uid.

    Args:
        pool: every sample, in the order of its uid.
        score: (N,) score of each; NaN where there is none.
    """
    free = np.flatnonzero(~pool.reference)
    order: np.ndarray = free[np.argsort(-score[free], kind="stable")]  # NaN sorts last
    return order


def select_in_order(
    pool: Pool,
    rows: np.ndarray,
    order: np.ndarray,
    score: np.ndarray,
    reason: str,
    cluster: np.ndarray | None = None,
) -> Selection:
    """Build the selection of some rows, with a reason of its own for those without a score.

    Args:
        pool: every sample.
        rows: (n,) the selected rows.
        order: (A,) the available rows, best first.
        score: (N,) score of every sample; NaN where there is none.
        reason: of the selected samples that have a score.
        cluster: (N,) cluster of every sample.
    """
    rank = np.full(len(pool), -1, dtype=np.int64)
    rank[order] = np.arange(len(order))
    selection = selection_of(pool, rows, score, rank, reason=reason, cluster=cluster)
    without = np.isnan(score) & ~pool.reference
    chosen = np.zeros(len(pool), dtype=bool)
    chosen[rows] = True
    selection.reason[without] = "no score"
    selection.reason[without & chosen] = "no score, fills the budget"
    return selection


def with_facts(
    selection: Selection, pool: Pool, signals: Signals, scores: dict[str, np.ndarray]
) -> Selection:
    """Add what the report shows: samples without a score, and how scores follow answer length.

    Args:
        selection: of a selector.
        pool: every sample.
        signals: the signals that it read.
        scores: (N,) each of its scores by name; NaN where a sample has none.
    """
    meta = dict(selection.meta)
    free = ~pool.reference
    missing = np.isnan(selection.score) & free
    if missing.any():
        unwritten = int((missing & ~pool.has_instruction).sum())
        undefined = int(missing.sum()) - unwritten
        parts = [f"{unwritten} without an instruction"] if unwritten else []
        parts += [f"{undefined} with a value that is not defined"] if undefined else []
        chosen = int(missing[pool.rows(selection.uids)].sum())
        filled = f"; {chosen} of them fill the budget" if chosen else "; none is selected"
        line = f"{missing.sum()} of {free.sum()} samples have no score ({', '.join(parts)}){filled}"
        meta["warnings"] = [*meta.get("warnings", []), line]
    length = answer_lengths(pool, signals)
    found = {name: correlation(values, length) for name, values in scores.items()}
    meta["length_correlation"] = found
    return replace(selection, meta=meta)


def answer_lengths(pool: Pool, signals: Signals) -> np.ndarray:
    """Return the answer tokens of each sample where they are known, else the words, (N,)."""
    if signals.of(TokenLoss).exists():
        tokens: np.ndarray = signals.token_loss(pool, np.arange(len(pool)), "n_tokens")
        return tokens
    return np.where(pool.has_instruction, pool.n_words, np.nan).astype(np.float64)


def correlation(values: np.ndarray, length: np.ndarray) -> float | None:
    """Compute Spearman's rank correlation of two columns (N,) where both are known.

    None where either is constant, or fewer than three samples have both.
    """
    known = np.isfinite(values) & np.isfinite(length)
    if known.sum() < 3 or np.ptp(values[known]) == 0 or np.ptp(length[known]) == 0:
        return None
    return round(float(spearmanr(values[known], length[known]).statistic), 4)
