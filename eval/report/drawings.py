"""Charts of the report of a run."""

from __future__ import annotations

from typing import Any

from presel_lightning.console import seconds
from presel_lightning.eval.report.charts import Chart, bars, intervals, spans
from presel_lightning.eval.report.curves import WINDOW
from presel_lightning.eval.report.plots import curves, histogram
from presel_lightning.eval.report.samples import score_name
from presel_lightning.eval.report.verdict import arm_label

Json = dict[str, Any]

STYLES = {"final": "s0", "random": "s1", "full": "s2", "untrained": "s3", "reference": "s3"}
OTHERS = ("s4", "s5", "s6", "s7")
"""CSS classes of arms and fits, and of all others in turn."""
MOST_ROWS = 24
"""Maximum tasks in a chart; the tables hold all of them."""


def draw(report: Json) -> dict[str, list[Chart]]:
    """Draw the charts of each section; an empty list where there is no data."""
    return {
        "arms": list(_score_charts(report)),
        "tasks": _task_charts(report["tasks"]),
        "losses": _loss_charts(report["losses"]),
        "scores": _histogram(report),
        "paired": _differences(report),
        "validation": _validation(report["validation"]),
        "curves": _curves(report["curves"], report["selector"]),
        "stages": _timeline(report["stages"]),
    }


def _validation(rows: list[Json]) -> list[Chart]:
    if not rows:
        return []
    title = "Linear datamodeling score, with its 95 % interval"
    shown = [(row["selector"], row["score"], row["low"], row["high"]) for row in rows]
    return [intervals("validation", title, shown, digits=2)]


def _score_charts(report: Json) -> list[Chart]:
    arms = [row for row in report["arms"] if row["scores"]]
    series = [
        (arm_label(row["arm"], report["selector"]), STYLES.get(row["arm"], "s3")) for row in arms
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
    size, selected = (sum(row[key] for row in tasks) or 1 for key in ("size", "selected"))
    weighted = any(row["weight"] is not None for row in tasks)
    what = "task weight" if weighted else "share of the selection"
    shares = [
        (row["task"], [_times(100, row["weight"]) if weighted else 100 * row["selected"] / selected,
                       100 * row["size"] / size])
        for row in shown
    ]  # fmt: skip
    parts = [("reference", "s3"), ("budget", "s0")]
    parts = parts if any(row["reference"] for row in tasks) else parts[1:]
    counts = [(row["task"], [row[part] for part, _ in parts]) for row in shown]
    added = [("added" if part == "budget" else part, style) for part, style in parts]
    pair = [(what, "s0"), ("share of the pool", "s3")]
    return [
        bars("weights", f"{what.capitalize()} beside share of the pool, %", shares, pair, _fixed),
        bars("budgets", "Selected images of each task", counts, added),
    ]


def _loss_charts(losses: list[Json]) -> list[Chart]:
    if not losses:
        return []
    shown = sorted(losses, key=lambda row: -row["samples"])[:MOST_ROWS]
    rows = [(str(row["task"]), [row["with_question"], row["without_question"]]) for row in shown]
    pair = [("with the question", "s0"), ("without it", "s1")]
    return [bars("losses", "Mean loss of the answer, nats per token", rows, pair, "{:.3f}".format)]


def _histogram(report: Json) -> list[Chart]:
    found = report["score_histogram"]
    if found is None:
        return []
    what = score_name(report["selector"])
    series = [("left out", "s3", found["left_out"]), ("selected", "s0", found["chosen"])]
    title = f"{what[0].upper()}{what[1:]} of selected images and of those left out, share of each"
    return [histogram("scores", title, found["edges"], series, what)]


def _curves(found: list[Json], selector: str | None) -> list[Chart]:
    if not found:
        return []
    others = [curve["stage"] for curve in found if curve["stage"] not in STYLES]
    series = [
        (
            arm_label(curve["stage"], selector),
            STYLES.get(curve["stage"]) or OTHERS[others.index(curve["stage"]) % len(OTHERS)],
            curve["share"],
            curve["loss"],
            curve["smoothed"],
        )
        for curve in found
    ]
    title = (
        f"Training loss, nats per token: thin as logged, bold its mean over {WINDOW:g} % of the fit"
    )
    return [curves("curves", title, series, "share of the fit")]


def _differences(report: Json) -> list[Chart]:
    """Draw a chart per other arm and unit (percentages, points up to 2000), each on its own scale."""
    several, name = len(report["benchmarks"]) > 1, arm_label("final", report["selector"])
    charts = []
    for against, scale in dict.fromkeys((r["against"], r["scale"]) for r in report["paired"]):
        other = arm_label(against, report["selector"])
        rows = [
            (row["benchmark"] if several else f"minus {other}",
             row["difference"], row["low"], row["high"])
            for row in report["paired"] if (row["against"], row["scale"]) == (against, scale)
        ]  # fmt: skip
        unit = "points" if scale == 100 else f"points of {scale:,.0f}"
        title = f"{name} minus {other}, {unit}"
        charts.append(intervals(f"paired-{against}-{scale:g}", title, rows[:MOST_ROWS]))
    return charts


def _timeline(stages: list[Json]) -> list[Chart]:
    rows = [
        (row["stage"], row["seconds"], _spent(row["seconds"], row.get("peak_memory_mb")))
        for row in stages
        if row.get("seconds") is not None
    ]
    return [spans("stages", "Stages one after another: time, peak memory", rows)] if rows else []


def _spent(took: float, memory: float | None) -> str:
    return seconds(took) + ("" if memory is None else f", {memory / 1024:.1f} GB")


def _times(factor: float, value: float | None) -> float | None:
    return None if value is None else factor * value


def _fixed(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"
