"""The stages of a run and the work of each, as far as they are known when its samples are."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from presel_lightning.data.sizes import count_of
from presel_lightning.recipe.context import Context
from presel_lightning.recipe.fits import SCORING, Fits
from presel_lightning.recipe.passes import Pass
from presel_lightning.run.outlook import Ahead

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
    before = [work for each in passes for work in each.ahead(reference)]
    after = [] if arms is None else ahead_of_arms(context, arms, len(reference))
    ahead = dict.fromkeys([*before, *after])  # passes share the reference fit
    context.runner.progress.plan(stages, list(ahead))


def ahead_of_arms(context: Context, arms: Fits, reference: int) -> list[Ahead]:
    """What the arms of a run will do.

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
    ahead = [
        work for arm, n in sizes.items() for work in arms.ahead(arm, n, stage="final", is_arm=True)
    ]
    if "untrained" in plan.baselines and plan.benchmarks:
        ahead.append(Ahead(LAST, SCORING, 1))
    return ahead
