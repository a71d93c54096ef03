"""Task weights by held-out loss."""

from __future__ import annotations

from torch import Tensor

from presel_lightning.selectors.weighting.base import MeasuredWeighting, TaskFacts
from presel_lightning.signals import HeldOutLoss


class Headroom(MeasuredWeighting):
    r""":math:`w_t \propto H_t`, the mean held-out loss L(R|Q,I) of the task's reference samples.

    Each half of the reference split is scored by a model that was tuned on the other half, so no
    loss is a training loss. It costs two fits on half the reference split each.

    Where answers are free text or labels are noisy, the loss has an irreducible part: see
    `cap_flat`, `priors` and `headroom_error` (docs/budgets.md).
    """

    needs = (HeldOutLoss.name,)

    def weights(self, facts: TaskFacts, budget: int) -> Tensor:
        """Compute the mean held-out loss of each task, in nats per token."""
        return self.settled(*facts.mean_and_error("loss"))
