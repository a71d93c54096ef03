"""Draws with repetition, in proportion to exp(score), whose repetitions are capped (FLYT)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from presel_lightning.errors import UserError
from presel_lightning.run.ranges import Count, NonNegative, Seed

Cap = Literal["soft_cap", "hard_cap"]


@dataclass(frozen=True)
class Sampling:
    """How many of which rows, by a score.

    Soft cap: rounds of `batch` draws without replacement from softmax(score); each draw lowers the
    score of its row by `penalty`. Hard cap: rounds of `batch` draws with replacement from
    softmax(score) over the rows that were drawn less than `limit` times; draws beyond are void.

    Scores and uids of all rows that pass the rules are held in memory, 40 bytes each.

    Source: Filter Like You Test (arXiv 2503.08805), SCS with penalty 0.15 and HCS with limit 15.

    Args:
        method: `soft_cap` or `hard_cap`.
        score: column.
        size: draws; what the trainer will see, repetitions included.
        penalty: of the soft cap.
        limit: of the hard cap.
        batch: draws of a round; 100,000 for the soft cap and 1,000,000 for the hard cap where none
            is given.
        seed: of the draws.
    """

    method: Cap
    score: str
    size: Count
    penalty: NonNegative = 0.15
    limit: Count = 15
    batch: Count | None = None
    seed: Seed = 0

    def counts(self, scores: np.ndarray) -> np.ndarray:
        """How often each row is drawn, (N,) int64.

        Args:
            scores: (N,), rows in an order that is their own, such as that of uids.

        Raises:
            UserError: the hard cap leaves too few draws, there are no rows, or a score is infinite.
        """
        if not len(scores):
            raise UserError("sampling: no row passes the rules and has a score")
        if infinite := int(np.isinf(scores).sum()):
            raise UserError(
                f"sampling: {infinite} rows have an infinite {self.score}, which no draw can follow; "
                "leave them out by a rule"
            )
        draw: Callable[[np.ndarray], np.ndarray]
        draw = self._soft if self.method == "soft_cap" else self._hard
        return draw(scores.astype(np.float64))

    def _soft(self, logits: np.ndarray) -> np.ndarray:
        """The largest of score + Gumbel noise are a draw without replacement from the softmax."""
        generator, counts = np.random.default_rng(self.seed), np.zeros(len(logits), np.int64)
        left = self.size
        while left:
            n = min(self.batch or 100_000, left, len(logits))
            noisy = logits + generator.gumbel(size=len(logits))
            drawn = np.argpartition(-noisy, n - 1)[:n]
            counts[drawn] += 1
            logits[drawn] -= self.penalty
            left -= n
        return counts

    def _hard(self, logits: np.ndarray) -> np.ndarray:
        if self.size > self.limit * len(logits):
            raise UserError(
                f"sampling: {len(logits)} rows drawn at most {self.limit} times are fewer than "
                f"{self.size} draws; lower `size` or raise `limit`"
            )
        generator, counts = np.random.default_rng(self.seed), np.zeros(len(logits), np.int64)
        left = self.size
        while left:
            free = np.flatnonzero(counts < self.limit)
            weights = np.exp(logits[free] - logits[free].max())
            n = min(self.batch or 1_000_000, left)
            drawn = generator.multinomial(n, weights / weights.sum())
            drawn = np.minimum(drawn, self.limit - counts[free])
            counts[free] += drawn
            left -= int(drawn.sum())
        return counts
