"""Charts of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from presel_lightning.eval.comparison.cells import BASELINE, RELATIVE
from presel_lightning.eval.comparison.verdict import budget_label
from presel_lightning.eval.report.charts import Chart, intervals
from presel_lightning.eval.report.plots import dots

Json = dict[str, Any]

WHOLE = ("full", "untrained")
"""Cells without a budget of their own."""
STYLES = {BASELINE: "s1", "full": "s2", "untrained": "s3"}
OTHERS = ("s0", "s4", "s5", "s6", "s7")
"""CSS classes of these methods, and of all others in turn."""


def draw(found: Json) -> Json:
    """Draw the scores by budget, and the differences of each part and over all pools."""
    return {
        "budgets": _budgets(found),
        "parts": [_differences(f"part-{i}", p, found) for i, p in enumerate(found["parts"])],
        "over_pools": [
            _differences(f"all-{i}", p, found) for i, p in enumerate(found["over_pools"])
        ],
    }


def _differences(name: str, part: Json, found: Json) -> Chart | None:
    unit = "points of relative performance" if found["measure"] == RELATIVE else "points"
    title = f"Difference to {BASELINE} in {unit}, with its 95 % interval"
    rows = [(row["selector"], row["mean"], row["low"], row["high"]) for row in part["differences"]]
    return intervals(name, title, rows) if rows else None


def _budgets(found: Json) -> list[Chart]:
    """Draw the scores by budget: a chart for each pool and benchmark, and relative performance."""
    names = found["benchmarks"]
    measures = [*names, RELATIVE] if len(names) > 1 else names
    charts = []
    for pool in found["pools"]:
        cells = [cell for cell in found["cells"] if cell["pool"] == pool]
        for measure in measures:
            known = [cell for cell in cells if _value(cell, measure) is not None]
            if known:
                where = f"{pool}: " if pool else ""
                what = "relative performance, %" if measure == RELATIVE else measure
                title = f"{where}{what}; a dot for each seed, a line through their means"
                charts.append(_chart(f"budget-{len(charts)}", title, known, measure))
    return charts


def _chart(name: str, title: str, cells: Sequence[Json], measure: str) -> Chart:
    budgets = sorted({cell["budget"] for cell in cells if cell["selector"] not in WHOLE})
    methods = list(dict.fromkeys(cell["selector"] for cell in cells))
    places = [("untrained", 0)] if "untrained" in methods else []
    places += [(None, budget) for budget in budgets]
    places += [("full", 1.0)] if "full" in methods else []
    others = [method for method in methods if method not in STYLES]
    series = [
        (
            method,
            STYLES.get(method) or OTHERS[others.index(method) % len(OTHERS)],
            [
                [
                    (seed_label(cell), _value(cell, measure))
                    for cell in cells
                    if cell["selector"] == method and _place(cell) == place
                ]
                for place in places
            ],
        )
        for method in methods
    ]
    labels = [whole or budget_label(budget) for whole, budget in places]
    return dots(name, title, labels, series, "budget")


def seed_label(cell: Json) -> str:
    """Name the seed of a cell; the untrained model has none."""
    return "no seed" if cell["seed"] is None else f"seed {cell['seed']}"


def _place(cell: Json) -> tuple[str | None, float]:
    whole = cell["selector"] if cell["selector"] in WHOLE else None
    return whole, cell["budget"]


def _value(cell: Json, measure: str) -> float | None:
    value: float | None = cell[RELATIVE] if measure == RELATIVE else cell["scores"].get(measure)
    return value
