"""Warnings about task weights by IRS."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from presel_lightning.selectors.weighting.base import TaskFacts, means_and_errors
from presel_lightning.selectors.weighting.headroom_error import HeadroomError
from presel_lightning.signals import HeldOutLoss, PairedLoss

SOLVED = 0.25
"""Held-out error below which a task counts as solved."""
ENOUGH = 4
"""Reference samples of a task below which its mean IRS is mostly noise."""
SHARE = 0.5
"""Share of the weight on solved tasks above which a warning is given."""


def doubts_of_irs(facts: TaskFacts, weights: Tensor) -> list[str]:
    """Return warnings about task weights by IRS, for the console and the report.

    The weight on solved tasks is checked only where the held-out losses of this reference split are
    on disk, since the losses of the IRS are training losses. They are never computed for the
    warning alone.

    Args:
        facts: inputs of the tasks.
        weights: (M,) share of the budget of each task.
    """
    return [*on_few_samples(facts), *above_one(facts), *on_solved_tasks(facts, weights)]


def on_few_samples(facts: TaskFacts) -> list[str]:
    """Warn of tasks with few reference samples."""
    few = [
        task
        for task, n in zip(facts.pool.tasks, facts.reference.tolist(), strict=True)
        if n < ENOUGH
    ]
    if not few:
        return []
    text = (
        f"the IRS of {', '.join(few)} is a mean of fewer than {ENOUGH} reference samples each: their "
        "budgets are mostly noise; raise data.reference, or use SizeBalanced"
    )
    return [text]


def above_one(facts: TaskFacts) -> list[str]:
    """Warn of tasks whose questions make the answers harder to predict."""
    by_task = facts.signals.of(PairedLoss).irs_by_task(facts.pool)
    means, _ = means_and_errors([by_task[task] for task in facts.pool.tasks])
    found = [
        f"{task} ({mean:.2f})"
        for task, mean in zip(facts.pool.tasks, means.tolist(), strict=True)
        if mean > 1
    ]
    if not found:
        return []
    text = (
        f"mean IRS above 1 in {', '.join(found)}: the loss of the answer is higher with its question "
        "than without, which lowers the task's weight; compare with weighting `headroom` or `size`"
    )
    return [text]


def on_solved_tasks(facts: TaskFacts, weights: Tensor) -> list[str]:
    """Warn of a large share of the weight on solved tasks, where held-out losses exist."""
    if not knows_held_out(facts):
        return []
    solved = HeadroomError().weights(facts, 0) < SOLVED  # (M,)
    share = float(weights[solved].sum() / weights.sum())
    if share <= SHARE:
        return []
    names = [facts.pool.tasks[i] for i in torch.nonzero(solved)[:, 0].tolist()]
    text = (
        f"{100 * share:.0f} % of the IRS weight is on tasks with a held-out error under "
        f"{SOLVED:g} ({', '.join(names)}), which have little left to learn; compare with "
        "weighting `headroom`"
    )
    return [text]


def knows_held_out(facts: TaskFacts) -> bool:
    """Return whether held-out losses of this reference split are on disk."""
    if not facts.signals.of(HeldOutLoss).exists():
        return False
    known = sorted(facts.signals.held_out_loss()["uid"].to_pylist())
    return known == sorted(np.asarray(facts.pool.uid)[facts.pool.reference].tolist())
