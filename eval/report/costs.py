"""Cost of a run: instructions and GPU-hours of every arm, at the configured prices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from presel_lightning.signals.base import ColumnSignal, Signal, made_by

Json = dict[str, Any]


def selecting() -> list[str]:
    """Return the stages that random selection does not need: signals and selection."""
    return [*made_by(on_reference=True), *made_by(on_reference=False), "selection"]


def gpu_hours(stage: Json) -> float | None:
    """Compute the GPU-hours of a stage over all its starts; None where it did not run on GPUs."""
    if "gpu_seconds" in stage:
        return float(stage["gpu_seconds"] / 3600)
    if stage.get("device") != "cuda" or stage.get("seconds") is None:
        return None
    return float(stage["seconds"] * stage.get("devices", 1) / 3600)


def cost(run: Json) -> Json:
    """Compute the cost of the selection, over the stages that were run here, and the prices."""
    stages = run.get("stages", {})
    named = [name for name in selecting() if "seconds" in stages.get(name, {})]
    choosing = [stages[name] for name in named]
    hours = [spent for stage in choosing if (spent := gpu_hours(stage)) is not None]
    return {
        "choosing_stages": named,
        "choosing_seconds": sum(stage["seconds"] for stage in choosing) if choosing else None,
        "choosing_gpu_hours": sum(hours) if hours else None,
        "price_per_instruction": run.get("price_per_instruction"),
        "price_per_gpu_hour": run.get("price_per_gpu_hour"),
    }


def instructions_read(needs: Iterable[str], stages: Json) -> int:
    """Return how many instructions were read to select: those of signals that are computed from them.

    Args:
        needs: signals of the selector.
        stages: of `run.json`.
    """
    kinds = [kind for need in needs if issubclass(kind := Signal.known[need], ColumnSignal)]
    counts = [stages.get(stage, {}).get("samples", 0) for kind in kinds for stage in kind.artifacts]
    return max(counts, default=0)


def price(arm: Json, spent: Json) -> Json:
    """Compute the cost of an arm, in the currency of the prices; None where unknown.

    instructions that must exist x price + (GPU-hours of the fit + those of the selection, for `final`) x price.
    Parts without a price or without a GPU are not in the total.
    """
    hours = [arm["gpu_hours"], spent["choosing_gpu_hours"] if arm["arm"] == "final" else None]
    known = [h for h in hours if h is not None]
    found = {
        "instructions": _times(arm["instructions"], spent["price_per_instruction"]),
        "gpu_hours": _times(sum(known) if known else None, spent["price_per_gpu_hour"]),
    }
    parts = [part for part in found.values() if part is not None]
    return {**found, "total": sum(parts) if parts else None}


def stage_cost(stage: Json, spent: Json) -> Json:
    """Compute the GPU-hours of a stage and their cost; None without a GPU or a price."""
    hours = gpu_hours(stage)
    return {"gpu_hours": hours, "gpu_cost": _times(hours, spent["price_per_gpu_hour"])}


def _times(amount: float | None, each: float | None) -> float | None:
    return None if amount is None or each is None else amount * each
