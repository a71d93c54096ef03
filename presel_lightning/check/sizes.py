"""Number of samples and steps of the stages, by the rules of the recipe."""

from __future__ import annotations

from collections.abc import Collection

import torch

from presel_lightning.callbacks.save_warm_up import require_steps
from presel_lightning.check.pairs import n_held_out
from presel_lightning.check.report import Report
from presel_lightning.check.survey import Survey, survey
from presel_lightning.data.sizes import count_of
from presel_lightning.errors import UserError
from presel_lightning.functional import proportional_split
from presel_lightning.loading.datamodule import SelectionDataModule
from presel_lightning.recipe.beside import empty, source_beside
from presel_lightning.recipe.examination import few_references
from presel_lightning.recipe.fits import fit_steps
from presel_lightning.recipe.passes.base import Pass, Work
from presel_lightning.recipe.plan import Plan, StageFactory
from presel_lightning.signals import Features
from presel_lightning.signals.base import require_samples


def examine_sizes(plan: Plan, found: Survey, left_out: int, report: Report) -> Work | None:
    """Compute the number of samples of every stage; None where it is unknown."""
    n, data, needs = found.n_samples - left_out, plan.data, plan.selector.needs
    n -= n_held_out(plan, n)
    if n <= 0:
        return None
    with report.collecting():
        budget = count_of(data.budget, n, "data.budget")
        split = reference_split(plan, n, budget, len(found.tasks))
        if split:
            sizes = proportional_split(torch.tensor(list(found.tasks.values())), split).tolist()
            report.notes += few_references(dict(zip(found.tasks, sizes, strict=True)))
        counts = f"{n:,} samples, {len(found.tasks)} tasks: reference {split:,}, budget {budget:,}"
        report.add("selection", type(plan.selector).__name__, counts)
        if budget < len(found.tasks):
            report.notes.append(
                f"data.budget is {data.budget} ({budget} samples) for {len(found.tasks)} tasks, so "
                "some get none; raise it where they matter"
            )
        return Work(
            reference=split,
            images=len(found.images) if Features.name in needs else 0,
            arms=arms_of(plan, found, n, budget, report),
            pool=n,
            texts=found.text_only if data.text_only else 0,
            needs=tuple(needs),
            gradient_width=plan.gradient_width,
            warmup_checkpoints=plan.warmup_checkpoints,
        )
    return None


def examine_validation(plan: Plan, needs: Collection[str], report: Report) -> None:
    """Report the samples of the validation file, where a signal reads one.

    Raises:
        UserError: it cannot be read, or has no instruction.
    """
    if plan.validation is None or not any(Pass.known[name].reads_validation for name in needs):
        return
    found = survey(source_beside(plan.data, "validation", plan.validation), 1, plan.seed)
    n = found.n_samples - found.without_instruction
    if not n:
        raise empty(f"validation {plan.validation}")
    report.add("selection", "validation", f"{n:,} samples")


def examine_warm_up(plan: Plan, factory: StageFactory, reference: int) -> None:
    """Check that the fit of the reference model has a step for each of `warmup_checkpoints`.

    Raises:
        UserError: it has fewer.
    """
    steps = fit_steps(factory.trainer_settings("reference"), reference, plan.data.batch_size)
    require_steps(steps, plan.warmup_checkpoints)


def reference_split(plan: Plan, n: int, budget: int, tasks: int) -> int:
    """Compute the size of the reference split; 0 where the selector needs none.

    Raises:
        UserError: it is too small or too large.
    """
    if not plan.data.needs_reference(plan.selector):
        return 0
    split = count_of(plan.data.reference, n, "data.reference")
    require_reference(plan.data, split, budget, tasks)
    require_samples(plan.selector.needs, split, plan.data.reference)
    return split


def arms_of(plan: Plan, found: Survey, n: int, budget: int, report: Report) -> dict[str, int]:
    """Return the number of samples of each fit after the selection."""
    if not found.without_instruction:
        sizes = {"random": budget, "full": n}
        trained = [arm for arm in plan.baselines if arm != "untrained"]
        return {"final": budget} | {arm: sizes[arm] for arm in trained}
    report.notes.append(
        f"{found.without_instruction:,} images have no instruction yet: the run stops with "
        "exit code 3 and lists those to annotate"
    )
    return {"final": budget}


def require_reference(data: SelectionDataModule, reference: int, budget: int, tasks: int) -> None:
    """Check that the reference split fits into the budget and covers every task.

    Raises:
        UserError: it does not.
    """
    if budget < reference:
        raise UserError(
            f"data.budget is {data.budget} ({budget} samples), less than data.reference "
            f"{data.reference} ({reference}); raise the budget or lower the reference"
        )
    if reference < tasks:
        raise UserError(
            f"data.reference is {data.reference} ({reference} samples) for {tasks} tasks; every "
            f"task needs one: set it to {tasks} or more"
        )
