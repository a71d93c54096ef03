"""Output of a comparison: an HTML page, tables as in the paper, and console lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from presel_lightning.console import console
from presel_lightning.console import seconds as duration
from presel_lightning.eval.comparison.cells import (
    RELATIVE,
    add_relative,
    analyze,
    read_cells,
    write_rows,
)
from presel_lightning.eval.comparison.drawings import draw
from presel_lightning.eval.comparison.latex import tabular
from presel_lightning.eval.comparison.verdict import budget_label, cut_short, heading, verdict
from presel_lightning.eval.intervals.published import full_scores, published_rows
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
    run = read_json(out / "run.json")
    source = run.get("full_scores")
    add_relative(cells, full_scores(source) if source else None)
    write_rows(out / "comparison.csv", cells)
    planned = [cell for _, place in parts for cell in read_json(place / "grid.json")["cells"]]
    found = {
        "name": out.resolve().name,
        "started": run.get("started"),
        "about": run.get("about", {}),
        "cells_planned": len(planned),
        **analyze(cells),
        "folders": {name: str(folder.relative_to(out)) for name, folder in parts},
        "selectors": sorted({cell["selector"] for cell in planned}),
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
    filters = {"budget": budget_label, "seconds": duration}
    shown = page("comparison.html.j2", filters, report=found, charts=draw(found), pm=plus_minus)
    write_text(place, shown)
    return place


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
