"""Between size and equality."""

from __future__ import annotations

from torch import Tensor

from presel_lightning.selectors.weighting.base import TaskFacts, Weighting


class SqrtSize(Weighting):
    r"""Shares in proportion to :math:`\sqrt{|T|}`: small tasks get more than their part."""

    def weights(self, facts: TaskFacts, budget: int) -> Tensor:
        """Square root of the images of each task."""
        return facts.sizes.sqrt()
