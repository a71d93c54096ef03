"""More for tasks whose short answers are still wrong."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from presel_lightning.selectors.weighting.base import TaskFacts, Weighting
from presel_lightning.signals import HeldOutLoss


class HeadroomError(Weighting):
    r""":math:`w_t \propto (\text{wrong}_t + 1/2) / (m_t + 1)`, the held-out share of wrong answers.

    An answer of :math:`m_t` reference samples is wrong if a model that was tuned on the other half
    does not foretell each of its tokens, which for short answers is what generating it would say.
    Errors compare across tasks, losses do not; the half sample keeps a solved task from nothing.
    """

    needs: ClassVar[tuple[str, ...]] = (HeldOutLoss.name,)

    def weights(self, facts: TaskFacts, budget: int) -> Tensor:
        """Smoothed error of each task."""
        right = [np.asarray(facts.held_out[task]["correct"]) for task in facts.pool.tasks]
        n = torch.tensor([len(values) for values in right], dtype=torch.float64)
        wrong = n - torch.tensor([values.sum() for values in right], dtype=torch.float64)
        error = (wrong + 0.5) / (n + 1)
        return self.settled(error, (error * (1 - error) / (n + 1)).sqrt())
