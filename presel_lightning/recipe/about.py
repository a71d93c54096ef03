"""What a run is about, in the words of its configuration, for the heading of its report."""

from __future__ import annotations

from collections.abc import Iterable

from presel_lightning.models.checkpoint import name_of
from presel_lightning.recipe.plan import Plan, StageFactory
from presel_lightning.signals import Features, Signal


def about(plan: Plan, factory: StageFactory) -> dict[str, str]:
    """Name pool, model and, where features are needed, the image encoder.

    Args:
        plan: settings of the run.
        factory: knows the models of the stages.
    """
    given = plan.data.annotations or list((plan.data.task_files or {}).values())
    pool = given if isinstance(given, str) else ", ".join(given)
    found = {"pool": pool, "model": model_of(plan, factory)}
    if Features.name in plan.selector.needs:
        found["encoder"] = factory.encoder or factory.embed().checkpoint
    return found


def model_of(plan: Plan, factory: StageFactory) -> str:
    """Name the model that is trained."""
    if plan.two_tower is not None:
        return f"two-tower probe on {factory.similarity().checkpoint}"
    return name_of(factory.model("final").origin)


def planned_stages(plan: Plan, needs: Iterable[str], fits: Iterable[str]) -> list[str]:
    """Return the stages that a run will go through, in the order of the recipe.

    Args:
        plan: settings of the run.
        needs: signals that are made.
        fits: stages that are fitted after the selection; baselines and scores come with them.
    """
    of_signals = [stage for need in needs for stage in Signal.known[need].artifacts]
    after = [*fits, *(arm for arm in plan.baselines if arm != "untrained"), "benchmarks"]
    named = ["pool", "split", *of_signals, "selection", "instructions", *(after if fits else [])]
    return list(dict.fromkeys(named))  # signals share the reference fit
