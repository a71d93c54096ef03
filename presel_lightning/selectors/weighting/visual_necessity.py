"""Task weights by how much the image helps to predict the answers."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from presel_lightning.selectors.weighting.base import (
    MeasuredWeighting,
    TaskFacts,
    means_and_errors,
)
from presel_lightning.signals import PairedLoss, TextLoss


class VisualNecessity(MeasuredWeighting):
    r""":math:`w_t \propto \max(0, \overline{L_{R|Q} - L_{R|Q,I}})` over the task's reference samples.

    VisNec's score under the reference model, before the instructions of the pool exist. A task whose
    answers the image makes no easier has weight 0; `floor` gives it a part all the same.

    Beside the paired losses it takes a pass over the text of the reference samples, without images.

    Source: VisNec, arXiv 2603.01195, of samples; as a rule for tasks it is ours.
    """

    needs = (PairedLoss.name, TextLoss.name)

    def weights(self, facts: TaskFacts, budget: int) -> Tensor:
        """Compute the mean gain of each task, in nats per token; 0 where it is negative."""
        pool, table = facts.pool, facts.signals.paired_loss()
        rows = pool.rows(table["uid"].to_pylist())
        with_image = table["loss_with_question"].to_numpy(zero_copy_only=False)
        gain = facts.signals.text_loss(pool, rows, "loss_without_image") - with_image.astype(
            np.float64
        )
        task = pool.task[rows]
        found = self.settled(*means_and_errors([gain[task == name] for name in pool.tasks]))
        return found.clamp(min=0)
