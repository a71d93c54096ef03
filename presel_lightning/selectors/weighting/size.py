"""Task budgets in proportion to size, as of a random sample on average."""

from __future__ import annotations

from torch import Tensor

from presel_lightning.selectors.weighting.base import TaskFacts, Weighting


class Size(Weighting):
    """A task's share of the budget is its share of the pool."""

    def weights(self, facts: TaskFacts, budget: int) -> Tensor:
        """Return the number of images of each task."""
        return facts.sizes
