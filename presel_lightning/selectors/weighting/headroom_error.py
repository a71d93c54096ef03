"""Task weights by held-out error of short answers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from presel_lightning.selectors.weighting.base import MeasuredWeighting, TaskFacts
from presel_lightning.signals import HeldOutLoss


class HeadroomError(MeasuredWeighting):
    r""":math:`w_t \propto (\text{wrong}_t + 1/2) / (m_t + 1)`, the held-out share of wrong answers.

    The answer of one of :math:`m_t` reference samples is wrong if the model that was tuned on the
    other half does not predict each of its tokens (teacher-forced exact match, which equals exact
    match under greedy decoding). Errors are comparable across tasks, losses are not; the half
    sample keeps the weight of a solved task above 0.
    """

    needs = (HeldOutLoss.name,)

    def weights(self, facts: TaskFacts, budget: int) -> Tensor:
        """Compute the smoothed error of each task."""
        right = [np.asarray(facts.held_out[task]["correct"]) for task in facts.pool.tasks]
        n = torch.tensor([len(values) for values in right], dtype=torch.float64)
        wrong = n - torch.tensor([values.sum() for values in right], dtype=torch.float64)
        error = (wrong + 0.5) / (n + 1)
        return self.settled(error, (error * (1 - error) / (n + 1)).sqrt())
