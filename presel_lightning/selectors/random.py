"""Uniform random selection, the baseline."""

from __future__ import annotations

import numpy as np

from presel_lightning.data.pool import Pool
from presel_lightning.records import Selection
from presel_lightning.selectors.base import Selector, best_first, make_selection
from presel_lightning.signals import Signals


class Random(Selector):
    """Select a uniform random sample of the whole pool."""

    def select(self, pool: Pool, signals: Signals, budget: int, *, seed: int) -> Selection:
        """Shuffle the available rows by seed and select the first `budget`."""
        score = np.random.default_rng(seed).random(len(pool))
        order = best_first(pool, score)
        return make_selection(pool, order, min(budget, len(order)), score, "random sample")
