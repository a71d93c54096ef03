"""CCS (ICLR 2023): the same number of samples from every stratum of difficulty."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from presel_lightning.data.pool import Pool
from presel_lightning.records import Selection
from presel_lightning.run.ranges import Count, ProperFraction
from presel_lightning.selectors.base import Selector
from presel_lightning.selectors.by_score import scored_first, select_in_order, with_facts
from presel_lightning.selectors.difficulty import (
    Difficulty,
    difficulty_of,
    require_difficulty,
)
from presel_lightning.signals import Signals, TokenLoss


class CCS(Selector):
    r"""Drop the hardest samples, and cover the range of difficulty of the others evenly.

    The range of scores is cut into strata of equal width. From the smallest stratum to the largest,
    each gives :math:`\min(n, \lfloor \mathrm{rest} / \mathrm{strata\ left} \rfloor)` random samples.

    Needs the instructions of the whole pool. Budget: over the whole pool; tasks are ignored.

    Differences to the paper: it takes the area under the margin of a classifier over its training;
    here difficulty is that of the answer tokens under the pre-instruction model. The hardest come
    last instead of never, so that every budget is met.

    Args:
        difficulty: `error_norm` (EL2N), `margin` (its negative) or `loss` of the answer tokens.
        drop: fraction of the samples, the hardest, that come last.
        strata: number of strata.

    Raises:
        UserError: `difficulty` is unknown.

    Source: Zheng et al., "Coverage-centric Coreset Selection for High Pruning Rates", ICLR 2023,
    Algorithm 1.
    """

    needs: ClassVar[tuple[str, ...]] = (TokenLoss.name,)

    def __init__(
        self, difficulty: Difficulty = "error_norm", drop: ProperFraction = 0.1, strata: Count = 50
    ) -> None:
        require_difficulty(difficulty)
        self.difficulty, self.drop, self.strata = difficulty, drop, strata

    def select(self, pool: Pool, signals: Signals, budget: int, *, seed: int) -> Selection:
        """Draw the samples of each stratum."""
        hard = difficulty_of(pool, signals, self.difficulty)
        rows = np.flatnonzero(np.isfinite(hard) & ~pool.reference)
        easy_first = rows[np.argsort(hard[rows], kind="stable")]
        kept = easy_first[: len(rows) - int(self.drop * len(rows))]
        picked, cluster = self.draw(hard[kept], min(budget, len(kept)), seed)
        stratum = np.full(len(pool), -1, dtype=np.int64)
        stratum[kept] = cluster
        rest = np.setdiff1d(scored_first(pool, -hard), kept[picked], assume_unique=True)
        rest = rest[np.argsort(hard[rest], kind="stable")]  # easiest first, those without one last
        order = np.concatenate([kept[picked], rest])
        reason = "drawn from its stratum of difficulty"
        selection = select_in_order(pool, order[:budget], order, hard, reason, stratum)
        return with_facts(selection, pool, signals, {self.difficulty: hard})

    def draw(self, hard: np.ndarray, budget: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw from the strata of difficulties (n,): rows (budget,), and the stratum of each (n,)."""
        if not len(hard):
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        edges = np.linspace(hard.min(), hard.max(), self.strata + 1)
        stratum = np.clip(np.searchsorted(edges, hard, side="right") - 1, 0, self.strata - 1)
        sizes = np.bincount(stratum, minlength=self.strata)
        rng = np.random.default_rng(seed)
        picked: list[np.ndarray] = []
        left = budget
        for number, each in enumerate(np.argsort(sizes, kind="stable")):
            share = min(int(sizes[each]), left // (self.strata - number))
            picked.append(rng.permutation(np.flatnonzero(stratum == each))[:share])
            left -= share
        return np.concatenate(picked), stratum
