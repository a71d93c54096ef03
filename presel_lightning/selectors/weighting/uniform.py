"""Equal task budgets."""

from __future__ import annotations

import torch
from torch import Tensor

from presel_lightning.run.ranges import NonNegative
from presel_lightning.selectors.weighting.base import TaskFacts, Weighting


class Uniform(Weighting):
    """Equal shares; suits a metric that averages over tasks.

    Args:
        priors: factor of a task's weight, {task: factor}; 1 where a task is not named.
        cap_flat: a task whose held-out loss training does not lower gets no more than its share of
            the pool. It needs the held-out losses.
    """

    def __init__(
        self, priors: dict[str, NonNegative] | None = None, cap_flat: bool = False
    ) -> None:
        super().__init__(priors=priors, cap_flat=cap_flat)  # no weight is below a floor

    def weights(self, facts: TaskFacts, budget: int) -> Tensor:
        """Return ones."""
        return torch.ones_like(facts.sizes)
