"""What a run cost: instructions and GPU-hours of every arm, at stated prices."""

from __future__ import annotations

from typing import Any

from presel_lightning.signals.base import made_by

Json = dict[str, Any]


def selecting() -> list[str]:
    """Stages that a random selection does without: those that make signals, and the selection."""
    return [*made_by(on_reference=True), *made_by(on_reference=False), "selection"]


def gpu_hours(stage: Json) -> float | None:
    """Hours times devices of a stage that ran on GPUs, over all its starts; None elsewhere."""
    if "gpu_seconds" in stage:
        return float(stage["gpu_seconds"] / 3600)
    if stage.get("device") != "cuda" or stage.get("seconds") is None:
        return None
    return float(stage["seconds"] * stage.get("devices", 1) / 3600)


def cost(run: Json) -> Json:
    """What choosing cost beside the fits, as far as the stages were run here, and the prices."""
    stages = run.get("stages", {})
    choosing = [stages[name] for name in selecting() if "seconds" in stages.get(name, {})]
    hours = [spent for stage in choosing if (spent := gpu_hours(stage)) is not None]
    return {
        "choosing_seconds": sum(stage["seconds"] for stage in choosing) if choosing else None,
        "choosing_gpu_hours": sum(hours) if hours else None,
        "price_per_instruction": run.get("price_per_instruction"),
        "price_per_gpu_hour": run.get("price_per_gpu_hour"),
    }


def price(arm: Json, spent: Json) -> Json:
    """What an arm cost, in the currency of the prices; None where it is not known.

    instructions x price + (GPU-hours of the fit + those of choosing, for `final`) x price. What has
    no price, or ran on no GPU, is no part of the total.
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
    """GPU-hours of a stage, and what they cost; None where it ran on no GPU or has no price."""
    hours = gpu_hours(stage)
    return {"gpu_hours": hours, "gpu_cost": _times(hours, spent["price_per_gpu_hour"])}


def _times(amount: float | None, each: float | None) -> float | None:
    return None if amount is None or each is None else amount * each
