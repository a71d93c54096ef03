"""A selector that returns training weights, for the tests of what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from presel_lightning.data import Pool
from presel_lightning.selectors import RankSelector
from presel_lightning.signals import Signals


class Weighted(RankSelector):
    """Keep the first samples by uid; their weights repeat a pattern along the pool.

    Args:
        pattern: weight of every n-th row.
        missing: how many weights to leave out.
    """

    def __init__(self, pattern: Sequence[float] = (3.0, 1.0, 0.5), missing: int = 0) -> None:
        self.pattern, self.missing = np.array(pattern), missing

    def score(self, pool: Pool, signals: Signals) -> Tensor:
        """Falls along the pool."""
        return -torch.arange(len(pool), dtype=torch.float64)

    def weights(self, pool: Pool, signals: Signals, rows: np.ndarray) -> Tensor:
        """The pattern at these rows."""
        weights = self.pattern[rows % len(self.pattern)]
        return torch.from_numpy(weights[: len(weights) - self.missing])
