"""The same for every task."""

from __future__ import annotations

import torch
from torch import Tensor

from presel_lightning.selectors.weighting.base import TaskFacts, Weighting


class Uniform(Weighting):
    """Equal shares; suits a metric that counts every task alike."""

    def weights(self, facts: TaskFacts, budget: int) -> Tensor:
        """Ones."""
        return torch.ones_like(facts.sizes)
