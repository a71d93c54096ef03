"""Task budgets by fitted power-law learning curves."""

from __future__ import annotations

import torch
from torch import Tensor

from presel_lightning.functional.learning_curve import power_law, spend
from presel_lightning.selectors.weighting.base import MeasuredWeighting, TaskFacts
from presel_lightning.signals import HeldOutLoss


class LearningCurve(MeasuredWeighting):
    r"""Allocate greedily by :math:`L_t(n) = L_t(0) \, (1 + n)^{-a_t}`, one sample at a time.

    :math:`a_t = \mathrm{clip}(\log(L_t(0) / H_t) / \log(1 + m_t / 2), 0, 2)`, from the loss of the
    pre-instruction model and the held-out loss after half of the task's :math:`m_t` reference
    samples. Every sample goes to the task with the largest :math:`L_t(n) - L_t(n + 1)`.
    """

    needs = (HeldOutLoss.name,)

    def weights(self, facts: TaskFacts, budget: int) -> Tensor:
        """Compute the samples of each task."""
        start = self.settled(*facts.mean_and_error("start_loss"))
        half = self.settled(*facts.mean_and_error("loss"))
        slope = power_law(start, half, facts.reference / 2)
        free = facts.sizes - facts.reference
        return spend(start.nan_to_num(0.0), slope, facts.reference, free, budget).to(torch.float64)
