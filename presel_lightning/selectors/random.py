"""A plain random draw: the baseline that every method has to beat."""

from __future__ import annotations

import numpy as np

from presel_lightning.data.pool import Pool
from presel_lightning.records import Selection
from presel_lightning.selectors.base import Selector, best_first, make_selection
from presel_lightning.signals import Signals


class Random(Selector):
    """Draw samples from the whole pool, each with the same chance."""

    def select(self, pool: Pool, signals: Signals, budget: int, *, seed: int) -> Selection:
        """Shuffle what is available by seed and take the first `budget` rows."""
        score = np.random.default_rng(seed).random(len(pool))
        order = best_first(pool, score)
        return make_selection(pool, order, min(budget, len(order)), score, "random draw")
