"""More for tasks on which a model still errs that has seen the reference split."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from presel_lightning.selectors.weighting.base import TaskFacts, Weighting
from presel_lightning.signals import HeldOutLoss


class Headroom(Weighting):
    r""":math:`w_t \propto H_t`, the mean held-out loss L(R|Q,I) of the task's reference samples.

    Each half of the reference split is scored by a model that was tuned on the other half, so no
    loss is one of training. It costs two fits on half the reference each.

    Where answers are free text or labels are noisy, a loss has a floor that no data removes: look
    at `cap_flat`, `priors` and `headroom_error` (docs/budgets.md).
    """

    needs: ClassVar[tuple[str, ...]] = (HeldOutLoss.name,)

    def weights(self, facts: TaskFacts, budget: int) -> Tensor:
        """Mean held-out loss of each task, nats a token."""
        return self.settled(*facts.mean_and_error("loss"))
