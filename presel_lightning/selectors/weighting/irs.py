"""Task weights by instruction relevance score, the rule of the paper."""

from __future__ import annotations

from torch import Tensor

from presel_lightning.functional import task_weights
from presel_lightning.run.ranges import Fraction, NonNegative, Positive
from presel_lightning.selectors.weighting.base import MeasuredWeighting, TaskFacts, means_and_errors
from presel_lightning.selectors.weighting.doubts import doubts_of_irs
from presel_lightning.signals import PairedLoss


class IRS(MeasuredWeighting):
    r""":math:`w = \mathrm{softmax}(-s / \tau)` with s(T) the mean IRS of a task's reference samples.

    A low IRS means that the question helps, not that something is left to learn: solved tasks have
    an IRS near 0 and get a large share (docs/budgets.md).

    Args:
        temperature: tau of the softmax; by default 1/sqrt(M).
        shrink: shrink s(T) toward its mean over tasks, by its standard error.
        floor: minimum weight of a task as a fraction of the mean weight, such as 0.15.
        priors: factor of a task's weight, {task: factor}; 1 where a task is not named.
        cap_flat: a task whose held-out loss training does not lower gets no more than its share of
            the pool. It needs the held-out losses.

    Source: PreSel, Eq. 4-5.
    """

    needs = (PairedLoss.name,)

    def __init__(
        self,
        temperature: Positive | None = None,
        shrink: bool = False,
        floor: Fraction = 0.0,
        priors: dict[str, NonNegative] | None = None,
        cap_flat: bool = False,
    ) -> None:
        super().__init__(shrink, floor, priors, cap_flat)
        self.temperature = temperature

    def weights(self, facts: TaskFacts, budget: int) -> Tensor:
        """Compute the softmax over tasks."""
        by_task = facts.signals.of(PairedLoss).irs_by_task(facts.pool)
        relevance, error = means_and_errors([by_task[task] for task in facts.pool.tasks])
        return task_weights(self.settled(relevance, error), self.temperature)

    def shares(self, facts: TaskFacts, budget: int) -> Tensor:
        """Return the softmax itself, or its adjustment where an option is set."""
        changed = self.floor or self.priors or self.cap_flat
        return super().shares(facts, budget) if changed else self.weights(facts, budget)

    def warnings(self, facts: TaskFacts, shares: Tensor) -> list[str]:
        """Warn of few samples, a mean IRS above 1, and weight on solved tasks."""
        return doubts_of_irs(facts, shares)
