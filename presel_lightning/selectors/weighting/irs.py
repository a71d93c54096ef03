"""The paper's rule: more for tasks whose questions matter more."""

from __future__ import annotations

from torch import Tensor

from presel_lightning.functional import task_weights
from presel_lightning.selectors.weighting.base import MeasuredWeighting, TaskFacts, means_and_errors
from presel_lightning.selectors.weighting.doubts import doubts_of_irs
from presel_lightning.signals import PairedLoss


class IRS(MeasuredWeighting):
    r""":math:`w = \mathrm{softmax}(-s / \tau)` with s(T) the mean IRS of a task's reference samples.

    A low IRS says that the question helps, not that something is left to learn: solved tasks have
    one near 0 and are funded well (docs/budgets.md).

    Args:
        temperature: of the softmax; 1/sqrt(M) where not given.
        shrink: draw s(T) towards its mean over tasks, by its standard error.
        floor: no task gets less than this part of the mean weight, such as 0.15.
        priors: factor of a task's weight, {task: factor}; 1 where a task is not named.
        cap_flat: a task whose held-out loss training does not lower gets no more than its share of
            the pool. It makes the held-out losses.

    Source: PreSel, Eq. 4-5.
    """

    needs = (PairedLoss.name,)

    def __init__(
        self,
        temperature: float | None = None,
        shrink: bool = False,
        floor: float = 0.0,
        priors: dict[str, float] | None = None,
        cap_flat: bool = False,
    ) -> None:
        super().__init__(shrink, floor, priors, cap_flat)
        self.temperature = temperature

    def weights(self, facts: TaskFacts, budget: int) -> Tensor:
        """Softmax over tasks."""
        by_task = facts.signals.of(PairedLoss).irs_by_task(facts.pool)
        relevance, error = means_and_errors([by_task[task] for task in facts.pool.tasks])
        return task_weights(self.settled(relevance, error), self.temperature)

    def shares(self, facts: TaskFacts, budget: int) -> Tensor:
        """The softmax exactly as it is, unless an option changes it."""
        changed = self.floor or self.priors or self.cap_flat
        return super().shares(facts, budget) if changed else self.weights(facts, budget)

    def warnings(self, facts: TaskFacts, shares: Tensor) -> list[str]:
        """What to be wary of: few samples, a mean IRS above 1, weight on solved tasks."""
        return doubts_of_irs(facts, shares)
