from __future__ import annotations

from typing import Any

from presel_lightning.eval.report.costs import cost, instructions_read, price

STAGES = {
    "reference": {"device": "cuda", "devices": 2, "seconds": 1800.0},
    "features": {"device": "cpu", "seconds": 60.0},
    "final": {"device": "cuda", "devices": 2, "seconds": 3600.0},
}


def arm(name: str, hours: float | None) -> dict[str, Any]:
    return {"arm": name, "instructions": 100, "gpu_hours": hours}


def test_price_sums_instructions_and_gpu_hours() -> None:
    run = {"stages": STAGES, "price_per_instruction": 0.5, "price_per_gpu_hour": 3.0}
    spent = cost(run)
    assert spent["choosing_seconds"] == 1860.0 and spent["choosing_gpu_hours"] == 1.0
    assert price(arm("final", 2.0), spent) == {
        "instructions": 50.0,
        "gpu_hours": 9.0,
        "total": 59.0,
    }
    assert price(arm("random", 2.0), spent)["total"] == 56.0  # random needs no selection


def test_price_without_prices_or_gpu_is_none() -> None:
    none = {"instructions": None, "gpu_hours": None, "total": None}
    assert price(arm("final", 2.0), cost({"stages": STAGES})) == none
    spent = cost({"stages": {}, "price_per_instruction": 0.5, "price_per_gpu_hour": 3.0})
    found = price(arm("final", None), spent)
    assert found == {"instructions": 50.0, "gpu_hours": None, "total": 50.0}


def test_instructions_read_are_those_that_the_signals_were_computed_from() -> None:
    stages = {"token_loss": {"samples": 90}, "features": {"images": 99}, "losses": {"samples": 7}}
    assert instructions_read(["features", "token_loss"], stages) == 90
    assert instructions_read(["features", "paired_loss"], stages) == 0
