"""Output of a comparison: an HTML page, tables as in the paper, and console lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from presel_lightning.console import console
from presel_lightning.eval.comparison.cells import (
    BASELINE,
    RELATIVE,
    add_relative,
    analyze,
    read_cells,
    write_rows,
)
from presel_lightning.eval.comparison.latex import tabular
from presel_lightning.eval.intervals.published import full_scores, published_rows
from presel_lightning.eval.report.charts import Chart, intervals
from presel_lightning.eval.report.page import page
from presel_lightning.run.files import read_json, write_json, write_text

Json = dict[str, Any]


def write_comparison(out: Path, pools: Sequence[tuple[str, Path]] = ()) -> Path:
    """Write `comparison.csv`, `report/` and tables for LaTeX and Markdown.

    Args:
        out: folder of the comparison.
        pools: name and folder of each pool, where there are several.
    """
    parts = pools or [("", out)]
    cells = [cell for name, folder in parts for cell in read_cells(folder, name)]
    source = read_json(out / "run.json").get("full_scores")
    add_relative(cells, full_scores(source) if source else None)
    write_rows(out / "comparison.csv", cells)
    found = {
        **analyze(cells),
        "folders": {name: str(folder.relative_to(out)) for name, folder in parts},
        "selectors": sorted(
            {
                cell["selector"]
                for _, place in parts
                for cell in read_json(place / "grid.json")["cells"]
            }
        ),
    }
    found["published"] = published_rows(source, found["benchmarks"])
    found["verdict"] = [*verdict(found), *cut_short(cells)]
    write_json(out / "report" / "report.json", found)
    write_text(
        out / "report" / "table.md", "\n".join(markdown(part, found) for part in found["parts"])
    )
    write_text(
        out / "report" / "table.tex", "\n".join(latex(part, found) for part in found["parts"])
    )
    place = out / "report" / "index.html"
    write_text(place, page("comparison.html.j2", report=found, charts=draw(found), pm=plus_minus))
    return place


def verdict(found: Json) -> list[str]:
    """Return conclusions about the methods, one sentence each."""
    seeds = len(found["seeds"])
    groups = found["over_pools"] or found["parts"]
    lines = []
    for group in groups:
        for row in group["differences"]:
            where = f"at a budget of {group['budget']:g}" + (
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
    if row["low"] is None:
        why = "one seed" if row["n"] == 1 else f"the same on all {row['n']} seeds, so no interval"
        return f"{row['selector']}: {row['mean']:+.1f} {unit} against Random, {why}"
    span = f"{row['mean']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}] {unit} against Random"
    if row["holm"] < 0.05:
        word = "beats" if row["mean"] > 0 else "loses to"
        return f"{row['selector']} {word} Random: {span}, Holm p = {row['holm']:.2g}"
    return (
        f"{row['selector']} is not distinguishable from Random: {span}, Holm p = {row['holm']:.2g}"
    )


def draw(found: Json) -> Json:
    """Draw one chart of differences per part, and one over all pools."""
    unit = "points of relative performance" if found["measure"] == RELATIVE else "points"

    def chart(name: str, rows: Sequence[Json]) -> Chart | None:
        title = f"Difference to Random in {unit}, with its 95 % interval"
        shown = [(r["selector"], r["mean"], r["low"], r["high"]) for r in rows]
        return intervals(name, title, shown) if shown else None

    return {
        "parts": [chart(f"part-{i}", p["differences"]) for i, p in enumerate(found["parts"])],
        "over_pools": [
            chart(f"all-{i}", p["differences"]) for i, p in enumerate(found["over_pools"])
        ],
    }


def plus_minus(pair: Sequence[float | None] | None, digits: int = 1) -> str:
    """Format mean ± standard deviation."""
    if pair is None or pair[0] is None:
        return "n/a"
    mean, deviation = pair
    spread = "" if deviation is None else f" ± {deviation:.{digits}f}"
    return f"{mean:.{digits}f}{spread}"


def table_rows(part: Json, found: Json) -> list[list[str]]:
    """Build the paper's table: rows are methods, columns benchmarks, relative performance last.

    Published rows follow, where `full_scores` names some.
    """
    own = [
        [
            row["selector"],
            f"{row['instructions']:,}",
            *[plus_minus(row["scores"][name]) for name in found["benchmarks"]],
            plus_minus(row[RELATIVE]),
        ]
        for row in part["rows"]
    ]
    theirs = [
        [
            f"{row['method']} (paper)",
            f"{row['instructions']} %",
            *[plus_minus((row["scores"].get(name), None)) for name in found["benchmarks"]],
            plus_minus((row[RELATIVE], None)),
        ]
        for row in found["published"]
    ]
    return own + theirs


def heading(part: Json) -> str:
    """Return the title of a table."""
    pool = f"{part['pool']}, " if part["pool"] else ""
    return f"{pool}budget {part['budget']:g}"


def markdown(part: Json, found: Json) -> str:
    """Format a table in Markdown."""
    head = ["method", "instructions", *found["benchmarks"], "Rel. (%)"]
    lines = [f"**{heading(part)}**", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines += [f"| {' | '.join(cells)} |" for cells in table_rows(part, found)]
    return "\n".join(lines) + "\n"


def latex(part: Json, found: Json) -> str:
    """Format a table in LaTeX."""
    head = ["Method", "Instructions", *found["benchmarks"], "Rel. (%)"]
    return tabular(heading(part), head, table_rows(part, found))


def print_comparison(out: Path) -> None:
    """Print the tables and the conclusions."""
    found = read_json(out / "report" / "report.json")
    for part in found["parts"]:
        table = Table(title=heading(part), title_justify="left", show_edge=False, pad_edge=False)
        for name in ("method", "instructions", *found["benchmarks"], "relative %"):
            table.add_column(Text(name), justify="left" if name == "method" else "right")
        for cells in table_rows(part, found):
            table.add_row(*map(Text, cells))
        console.print(table)
    for line in found["verdict"]:
        console.print(Text(line))
    console.print(f"comparison: {out / 'comparison.csv'}", markup=False)
    console.print(f"report: {out / 'report' / 'index.html'}", markup=False)
