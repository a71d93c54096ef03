"""What to be wary of in the paper's task weights."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from presel_lightning.selectors.weighting.base import TaskFacts, means_and_errors
from presel_lightning.selectors.weighting.headroom_error import HeadroomError
from presel_lightning.signals import HeldOutLoss, PairedLoss

SOLVED = 0.25
"""Held-out error below which a task has little left to learn."""
ENOUGH = 4
"""Reference samples of a task below which its mean IRS says next to nothing."""
SHARE = 0.5
"""Part of the weight on such tasks that is worth a word."""


def doubts_of_irs(facts: TaskFacts, weights: Tensor) -> list[str]:
    """Sentences on weights that the IRS gave, for the screen and the report.

    A mean IRS above 1 can always be told. Whether the weight sits on solved tasks can be told only
    where the held-out losses of this reference split lie on disk: the losses that the IRS is made
    of are those of training, and low for that reason alone. They are never made for the warning.

    Args:
        facts: what is known of the tasks.
        weights: (M,) share of the budget of each task.
    """
    return [*on_few_samples(facts), *above_one(facts), *on_solved_tasks(facts, weights)]


def on_few_samples(facts: TaskFacts) -> list[str]:
    """Tasks whose weight rests on a handful of reference samples."""
    few = [
        task
        for task, n in zip(facts.pool.tasks, facts.reference.tolist(), strict=True)
        if n < ENOUGH
    ]
    if not few:
        return []
    text = (
        f"the IRS of {', '.join(few)} rests on fewer than {ENOUGH} reference samples each: their "
        "budgets are little more than chance; raise data.reference, or take SizeBalanced"
    )
    return [text]


def above_one(facts: TaskFacts) -> list[str]:
    """Tasks whose questions make the answers harder to foretell."""
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
        f"mean IRS above 1 in {', '.join(found)}: there the answer is harder with its question "
        "than without, which lowers the task's weight; see docs/budgets.md"
    )
    return [text]


def on_solved_tasks(facts: TaskFacts, weights: Tensor) -> list[str]:
    """How much of the weight goes where little is left to learn, if that is known and too much."""
    if not knows_held_out(facts):
        return []
    solved = HeadroomError().weights(facts, 0) < SOLVED  # (M,)
    share = float(weights[solved].sum() / weights.sum())
    if share <= SHARE:
        return []
    names = [facts.pool.tasks[i] for i in torch.nonzero(solved)[:, 0].tolist()]
    text = (
        f"{100 * share:.0f} % of the IRS weight is on tasks with a held-out error under "
        f"{SOLVED:g} ({', '.join(names)}): little is left to learn there; compare with "
        "weighting `headroom`, see docs/budgets.md"
    )
    return [text]


def knows_held_out(facts: TaskFacts) -> bool:
    """Whether held-out losses lie on disk, and are those of this reference split."""
    if not facts.signals.of(HeldOutLoss).exists():
        return False
    known = sorted(facts.signals.held_out_loss()["uid"].to_pylist())
    return known == sorted(np.asarray(facts.pool.uid)[facts.pool.reference].tolist())
