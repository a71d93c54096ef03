"""Charts of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from presel_lightning.eval.comparison.cells import BASELINE, RELATIVE
from presel_lightning.eval.comparison.verdict import budget_label
from presel_lightning.eval.report.charts import Chart, intervals
from presel_lightning.eval.report.plots import dots

Json = dict[str, Any]

WHOLE = ("untrained", "full")
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
    charts: list[Chart] = []
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
    methods = list(dict.fromkeys(cell["selector"] for cell in cells))
    others = [method for method in methods if method not in STYLES]
    places = sorted({_place(cell) for cell in cells})
    series = []
    for method in methods:
        style = STYLES.get(method) or OTHERS[others.index(method) % len(OTHERS)]
        groups: list[list[tuple[str, float]]] = [[] for _ in places]
        for cell in cells:
            if cell["selector"] == method and (value := _value(cell, measure)) is not None:
                seed = "no seed" if cell["seed"] is None else f"seed {cell['seed']}"
                groups[places.index(_place(cell))].append((seed, value))
        series.append((method, style, groups))
    return dots(name, title, [label for *_, label in places], series, "budget")


def _place(cell: Json) -> tuple[int, float, str]:
    """Place a cell on the axis: the untrained model, the budgets, full data."""
    if cell["selector"] in WHOLE:
        return 2 * WHOLE.index(cell["selector"]), 0.0, cell["selector"]
    return 1, cell["budget"], budget_label(cell["budget"])


def _value(cell: Json, measure: str) -> float | None:
    value: float | None = cell[RELATIVE] if measure == RELATIVE else cell["scores"].get(measure)
    return value
