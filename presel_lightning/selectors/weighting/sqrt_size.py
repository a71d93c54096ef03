"""Task budgets in proportion to the square root of size."""

from __future__ import annotations

from torch import Tensor

from presel_lightning.selectors.weighting.base import TaskFacts, Weighting


class SqrtSize(Weighting):
    r"""Shares in proportion to :math:`\sqrt{|T|}`: small tasks get more than by size."""

    def weights(self, facts: TaskFacts, budget: int) -> Tensor:
        """Return the square root of the number of images of each task."""
        return facts.sizes.sqrt()
