"""In proportion to size: what a random draw does on average."""

from __future__ import annotations

from torch import Tensor

from presel_lightning.selectors.weighting.base import TaskFacts, Weighting


class Size(Weighting):
    """A task's share of the budget is its share of the pool."""

    def weights(self, facts: TaskFacts, budget: int) -> Tensor:
        """Images of each task."""
        return facts.sizes
