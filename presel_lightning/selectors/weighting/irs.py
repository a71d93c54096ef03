"""The paper's rule: more for tasks whose questions matter more."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from presel_lightning.functional import task_weights
from presel_lightning.selectors.weighting.base import TaskFacts, Weighting, means_and_errors
from presel_lightning.signals import PairedLoss


class IRS(Weighting):
    r""":math:`w = \mathrm{softmax}(-s / \tau)` with s(T) the mean IRS of a task's reference samples.

    A low IRS says that the question helps, not that something is left to learn: solved tasks have
    one near 0 and are funded well (docs/budgets.md).

    Args:
        shrink: draw s(T) towards its mean over tasks, by its standard error.
        temperature: of the softmax; 1/sqrt(M) where not given.

    Source: PreSel, Eq. 4-5.
    """

    needs: ClassVar[tuple[str, ...]] = (PairedLoss.name,)

    def __init__(self, shrink: bool = False, temperature: float | None = None) -> None:
        super().__init__(shrink)
        self.temperature = temperature

    def weights(self, facts: TaskFacts, budget: int) -> Tensor:
        """Softmax over tasks."""
        by_task = facts.signals.of(PairedLoss).irs_by_task(facts.pool)
        relevance, error = means_and_errors([by_task[task] for task in facts.pool.tasks])
        return task_weights(self.settled(relevance, error), self.temperature)
