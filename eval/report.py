"""The report of a run: one self-contained page, the same figures as JSON, and a few lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from presel_lightning.console import console as screen
from presel_lightning.console import seconds
from presel_lightning.eval.charts import Chart, bars, histogram, number
from presel_lightning.eval.page import page
from presel_lightning.eval.run_folder import read_run
from presel_lightning.eval.verdict import arm_label, headline, verdict
from presel_lightning.store import read_json, write_json, write_text

Json = dict[str, Any]

SHOWN_APART = frozenset(
    "stage status fingerprint seconds peak_memory_mb artifact device devices".split()  # noqa: SIM905
)
ARM_STYLES = {"final": "s0", "random": "s1", "full": "s2", "untrained": "s3"}
MOST_ROWS = 24
"""Tasks that a chart shows; the tables hold all of them."""


def write_report(out: Path) -> Path:
    """Write `report/report.json` and `report/index.html` from the files of a run folder.

    Returns:
        The page. A part whose files are missing is left out of it.
    """
    report = build_report(out)
    write_json(out / "report" / "report.json", report)
    place = out / "report" / "index.html"
    write_text(place, render(report))
    return place


def build_report(out: Path) -> Json:
    """Everything that the page shows, as JSON values."""
    report = read_run(out)
    return {"headline": headline(report), "verdict": verdict(report), **report}


def render(report: Json) -> str:
    """The page as HTML; every text of the run is escaped."""
    labels = {row["arm"]: arm_label(row["arm"], report["selector"]) for row in report["arms"]}
    return page(
        "report.html.j2",
        {"number": _number, "seconds": _seconds, "percent": _percent, "facts": _facts},
        report=report,
        cards=cards(report),
        charts=draw(report),
        labels=labels,
        most_rows=MOST_ROWS,
    )


def print_summary(out: Path, console: Console | None = None) -> None:
    """Print the headline, the table of arms and the verdict of a run that has its report."""
    path = out / "report" / "report.json"
    report = read_json(path) if path.is_file() else build_report(out)
    for line in summary_lines(report):
        (console or screen).print(line)
    (console or screen).print(f"report: {out / 'report' / 'index.html'}", markup=False)


def summary_lines(report: Json) -> list[RenderableType]:
    """The report in a few lines for a terminal."""
    lines: list[RenderableType] = [Text(report["headline"])]
    if any(row["scores"] for row in report["arms"]):
        lines.append(_arms_table(report))
    first, *rest = report["verdict"]
    return [*lines, Text(first, style="bold"), *(Text(line) for line in rest)]


def _arms_table(report: Json) -> Table:
    table = Table("arm", show_edge=False, pad_edge=False, header_style="dim")
    for name in ("samples", *report["benchmarks"], "relative %", "fit"):
        table.add_column(Text(name), justify="right")
    for row in report["arms"]:
        label = Text(arm_label(row["arm"], report["selector"]))
        if row["left_out"]:
            table.add_row(label, Text("left out", style="dim"))
            continue
        scores = [_fixed(row["scores"].get(name)) for name in report["benchmarks"]]
        cells = [
            _number(row["samples"]),
            *scores,
            _fixed(row["relative"]),
            _seconds(row["seconds"]),
        ]
        table.add_row(label, *cells)
    return table


def cards(report: Json) -> list[tuple[str, str]]:
    """Label and figure of the few numbers that open the page; only those that exist."""
    arms, counts = {row["arm"]: row for row in report["arms"]}, report["counts"]
    final = arms.get("final", {"scores": {}, "relative": None, "seconds": None})
    found = [("images in the pool", _number(counts["pool"]))]
    if counts["selected"] is not None:
        total = counts["selected"] + (counts["reference"] or 0)
        found.append(("images chosen", f"{total:,}"))
    scores = {name: final["scores"].get(name) for name in report["benchmarks"]}
    if len(scores) == 1:
        found += [(f"{name}, final model", _fixed(score)) for name, score in scores.items()]
    if final["relative"] is not None:
        found.append(("of full-data tuning", f"{final['relative']:.1f} %"))
    spent = report["cost"]["choosing_seconds"]
    found.append(("time to choose", "" if spent is None else seconds(spent)))
    found.append(("time of the final fit", _seconds(final["seconds"])))
    return [(label, figure) for label, figure in found if figure]


def draw(report: Json) -> dict[str, list[Chart]]:
    """The charts of each section; an empty list where there is nothing to draw."""
    return {
        "arms": list(_score_charts(report)),
        "tasks": _task_charts(report["tasks"]),
        "losses": _loss_charts(report["losses"]),
        "scores": _histogram(report),
        "stages": _timeline(report["stages"]),
    }


def _score_charts(report: Json) -> list[Chart]:
    arms = [row for row in report["arms"] if row["scores"]]
    series = [
        (arm_label(row["arm"], report["selector"]), ARM_STYLES.get(row["arm"], "s3"))
        for row in arms
    ]
    charts = []
    for place, name in enumerate(report["benchmarks"]):
        tasks = report["task_scores"].get(name, {})
        rows = [("all tasks" if tasks else name, [row["scores"].get(name) for row in arms])]
        rows += [
            (task, [scores.get(row["arm"]) for row in arms])
            for task, scores in list(tasks.items())[:MOST_ROWS]
        ]
        charts.append(bars(f"score-{place}", f"{name}: score by arm", rows, series, _fixed))
    return charts


def _task_charts(tasks: list[Json]) -> list[Chart]:
    if not tasks:
        return []
    shown = sorted(tasks, key=lambda row: -row["size"])[:MOST_ROWS]
    size, chosen = (sum(row[key] for row in tasks) or 1 for key in ("size", "selected"))
    weighted = any(row["weight"] is not None for row in tasks)
    what = "task weight" if weighted else "share of the choice"
    shares = [
        (row["task"], [_times(100, row["weight"]) if weighted else 100 * row["selected"] / chosen,
                       100 * row["size"] / size])
        for row in shown
    ]  # fmt: skip
    counts = [(row["task"], [row["reference"], row["budget"]]) for row in shown]
    pair = [(what, "s0"), ("share of the pool", "s3")]
    return [
        bars("weights", f"{what.capitalize()} beside share of the pool, %", shares, pair, _fixed),
        bars("budgets", "Images of each task", counts, [("reference", "s3"), ("added", "s0")]),
    ]


def _loss_charts(losses: list[Json]) -> list[Chart]:
    if not losses:
        return []
    shown = sorted(losses, key=lambda row: -row["samples"])[:MOST_ROWS]
    rows = [(str(row["task"]), [row["with_question"], row["without_question"]]) for row in shown]
    pair = [("with the question", "s0"), ("without it", "s1")]
    return [bars("losses", "Mean loss of the answer, nats a token", rows, pair, "{:.3f}".format)]


def _histogram(report: Json) -> list[Chart]:
    found = report["score_histogram"]
    if found is None:
        return []
    central = report["selector"] in (None, "PreSel")
    what = "Neighbor Centrality" if central else f"score of {report['selector']}"
    series = [("left out", "s3", found["left_out"]), ("chosen", "s0", found["chosen"])]
    title = f"{what[0].upper()}{what[1:]} of what was chosen and what was left out"
    return [
        histogram("scores", title, found["edges"], series, f"{what}; height: share of each group")
    ]


def _timeline(stages: list[Json]) -> list[Chart]:
    rows = [(row["stage"], [row["seconds"]]) for row in stages if row.get("seconds") is not None]
    return [bars("stages", "Seconds of each stage", rows, [("seconds", "s0")])] if rows else []


def _facts(stage: Json) -> str:
    """What else a stage tells of itself, in words."""
    told = {name: value for name, value in stage.items() if name not in SHOWN_APART}
    return ", ".join(
        f"{name.replace('_', ' ')} {number(v) if isinstance(v, int | float) else v}"
        for name, v in told.items()
    )


def _times(factor: float, value: float | None) -> float | None:
    return None if value is None else factor * value


def _number(value: float | None) -> str:
    return "" if value is None else number(value)


def _fixed(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _seconds(value: float | None) -> str:
    return "" if value is None else seconds(value)
