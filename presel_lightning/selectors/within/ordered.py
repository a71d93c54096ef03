"""Base class of rules that order a whole task, beside what is selected already."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from presel_lightning.selectors.in_task import Allocation
from presel_lightning.selectors.within.base import Selected, Within


class Ordered(NamedTuple):
    """Order of the images of a task that are not selected already."""

    rows: Tensor
    """(A,) int64 row numbers, in the order in which they are selected."""
    score: Tensor
    """(n,) float64, higher is better."""
    cluster: Tensor
    """(n,) int64 cluster of each row; -1 where the rule has none."""


class InOrder(Within):
    """Select the first images of an order of the task.

    Images of the reference split and of earlier rounds count as selected; those of earlier rounds
    go first.
    """

    @abstractmethod
    def order(self, features: Tensor, n_new: int, taken: Tensor, *, seed: int) -> Ordered:
        """Order the rows that are not taken.

        Args:
            features: (n, D) in the order of uid.
            n_new: rows to select beside those taken.
            taken: (n,) bool, rows that are selected already.
            seed: seed of every random number.
        """

    def select(
        self,
        features: Tensor,
        budget: float,
        excluded: Tensor,
        allocation: Allocation = "exact",
        *,
        earlier: Tensor | None = None,
        seed: int,
    ) -> Selected:
        """Select those of earlier rounds, then the first of the order."""
        wanted = min(int(budget + 1e-9), int((~excluded).sum()))
        earlier = torch.zeros_like(excluded) if earlier is None else earlier & ~excluded
        kept = earlier.nonzero()[:, 0]
        found = self.order(features, max(0, wanted - len(kept)), excluded | earlier, seed=seed)
        rows = torch.cat([kept, found.rows])
        rank = torch.full((len(features),), -1)
        rank[rows] = torch.arange(len(rows))
        score = found.score.masked_fill(excluded, torch.nan)
        return Selected(rows[:wanted].sort().values, score, found.cluster, rank)
