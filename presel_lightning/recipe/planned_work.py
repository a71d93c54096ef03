"""The stages of a run and the work of each, as far as they are known when its samples are."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from presel_lightning.data.sizes import count_of
from presel_lightning.recipe.context import Context
from presel_lightning.recipe.fits import SCORING, Fits
from presel_lightning.recipe.passes import Pass
from presel_lightning.run.time_left import PlannedWork

LAST = "benchmarks"


def plan_progress(
    context: Context,
    stages: Sequence[str],
    passes: Collection[Pass],
    arms: Fits | None,
    reference: np.ndarray,
) -> None:
    """Plan the work of a run: the passes of its signals and the fits of its arms.

    Baselines whose instructions are not all there may be left out, and are no part of the plan.

    Args:
        context: of the run.
        stages: that it goes through, in their order.
        passes: of the signals that are made, in their order.
        arms: fits the arms; None for a run up to the selection.
        reference: uids of the reference split.
    """
    before = [work for each in passes for work in each.planned_work(reference)]
    after = [] if arms is None else planned_work_of_arms(context, arms, len(reference))
    planned = dict.fromkeys([*before, *after])  # passes share the reference fit
    context.runner.progress.plan(stages, list(planned))


def planned_work_of_arms(context: Context, arms: Fits, reference: int) -> list[PlannedWork]:
    """Return the fits and scorings of the arms of a run.

    Args:
        context: of the run.
        arms: fits them.
        reference: number of samples of the reference split.
    """
    plan, pool = context.plan, context.data.pool
    budget = max(count_of(context.data.budget, len(pool), "data.budget"), reference)
    complete = bool(pool.has_instruction.all())
    sizes = {"final": budget}
    if complete:
        known = {"random": budget, "full": len(pool)}
        sizes |= {arm: known[arm] for arm in plan.baselines if arm in known}
    planned = [
        work
        for arm, n in sizes.items()
        for work in arms.planned_work(arm, n, stage="final", is_arm=True)
    ]
    if "untrained" in plan.baselines and plan.benchmarks:
        planned.append(PlannedWork(LAST, SCORING, 1))
    return planned
