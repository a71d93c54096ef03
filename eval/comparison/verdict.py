"""Conclusions of a comparison, in sentences of one form for all methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from presel_lightning.eval.comparison.cells import BASELINE, RELATIVE

Json = dict[str, Any]


def verdict(found: Json) -> list[str]:
    """Return conclusions about the methods, one sentence each."""
    seeds = len(found["seeds"])
    groups = found["over_pools"] or found["parts"]
    lines = []
    for group in groups:
        for row in group["differences"]:
            where = f"at a budget of {budget_label(group['budget'])}" + (
                f", mean over {len(found['pools'])} pools" if found["over_pools"] else ""
            )
            lines.append(f"{sentence(row, found['measure'])} ({where}).")
    if not lines:
        return [why_no_difference(found)]
    if seeds < 5:
        many = "One seed has" if seeds == 1 else f"{seeds} seeds have"
        lines.append(f"{many} little statistical power: only large differences are detectable.")
    return lines


def cut_short(cells: Sequence[Json]) -> list[str]:
    """Report the cells whose fit a time limit has ended early."""
    cut = [cell for cell in cells if cell.get("cut_short")]
    if not cut:
        return []
    first = f"{cut[0]['name']} {cut[0]['cut_short']}"
    found = (
        f"{len(cut)} of {len(cells)} fits were cut short ({first}): these cells are not on equal "
        "terms with others. A start with another limit, or without one, continues them."
    )
    return [found]


def why_no_difference(found: Json) -> str:
    """Return why no difference can be computed, and the cure."""
    rows = [row for part in found["parts"] for row in part["rows"]]
    methods = {row["selector"] for row in rows} - {"full", "untrained"}
    if BASELINE not in methods:
        if BASELINE in found.get("selectors", ()):
            return f"{BASELINE} has no score, so no difference can be tested."
        return f"Without {BASELINE} among the selectors no difference can be tested."
    if methods == {BASELINE}:
        return f"{BASELINE} alone has scores; there is nothing to compare with it."
    if found["measure"] == RELATIVE and not any(row[RELATIVE] for row in rows):
        return (
            f"No difference to {BASELINE}: several benchmarks are compared by relative performance, "
            "and that needs the scores of full data. Let full data be trained here, or give "
            "full_scores with the names of these benchmarks."
        )
    return f"{BASELINE} and the other selectors have no seed in common that has a score."


def sentence(row: Json, measure: str) -> str:
    """Return the result of one method against random selection."""
    unit = "points of relative performance" if measure == RELATIVE else f"points of {measure}"
    if round(row["mean"], 1) == 0:
        outcome = f"{row['selector']} came out equal with {BASELINE}"
    else:
        outcome = f"{row['selector']} was {'ahead of' if row['mean'] > 0 else 'behind'} {BASELINE}"
    if row["low"] is None:
        seeds = (
            "one seed" if row["n"] == 1 else f"all {row['n']} seeds alike, so without an interval"
        )
        return f"{outcome}: {row['mean']:+.1f} {unit} on {seeds}"
    if row["holm"] >= 0.05:
        outcome = f"{row['selector']} is not distinguishable from {BASELINE}"
    span = f"{row['mean']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}] {unit}"
    return f"{outcome}: {span} over {row['n']} seeds, Holm p = {row['holm']:.2g}"


def budget_label(budget: float) -> str:
    """Format a budget: a fraction in percent, a count as it is."""
    return f"{100 * budget:g} %" if budget <= 1 else f"{budget:,.0f}"


def heading(part: Json) -> str:
    """Return the title of a table."""
    pool = f"{part['pool']}, " if part["pool"] else ""
    return f"{pool}budget {budget_label(part['budget'])}"
