"""Scores of the cells of a comparison, and their statistics."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from presel_lightning.eval.intervals.relative import relative_performance
from presel_lightning.eval.intervals.seeds import holm, mean_sd, overlap, paired_difference
from presel_lightning.eval.report.costs import cost, gpu_hours, instructions_read, price
from presel_lightning.run.files import read_json, replacing
from presel_lightning.signals import Signal

Json = dict[str, Any]
Row = dict[str, Any]

COLUMNS = (
    "selector",
    "budget",
    "seed",
    "benchmark",
    "score",
    "relative",
    "instructions",
    "train_samples",
    "selection_seconds",
    "pool",
)
SHOWN = tuple(
    "name pool selector budget seed scores relative train_samples loss fit_seconds gpu_hours cost".split()  # noqa: SIM905
)
"""What the page shows of each cell."""
BASELINE = "Random"
RELATIVE = "relative"


def read_cells(out: Path, pool: str = "") -> list[Json]:
    """Read every scored cell, full data and the untrained model included."""
    grid = read_json(out / "grid.json")["cells"]
    cells = [found for cell in grid if (found := read_cell(out, cell))]
    untrained = measured(read_json(out / "benchmark.json").get("untrained", {}))
    own = out / "work" / "scores" / "untrained.json"
    gaps = gaps_of(read_json(own)["benchmarks"]) if own.exists() else {}
    cells.append(
        {"selector": "untrained", "budget": 0, "seed": None, "scores": untrained, "gaps": gaps}
    )
    nothing = {"instructions": 0, "train_samples": 0, "selection_seconds": 0.0, "tasks": {}}
    return [{"pool": pool, **nothing, **cell} for cell in cells]


def is_scored(folder: Path) -> bool:
    """Return whether a cell has finished; scores of an earlier call may exist where it has not."""
    if not (folder / "run.json").exists() or not (folder / "benchmark.json").exists():
        return False
    state: str | None = read_json(folder / "run.json").get("state")
    return state == "done"


def read_cell(out: Path, cell: Json) -> Json | None:
    """Read scores and costs of one cell; None where it has not been scored."""
    folder = out / "cells" / cell["name"]
    if not is_scored(folder):
        return None
    run = read_json(folder / "run.json")
    stages = run["stages"]
    scores = read_json(folder / "benchmark.json")["final"]
    tasks = read_json(folder / "work" / "scores" / "final.json")["benchmarks"]
    table = pq.read_table(folder / "selection" / "selection.parquet", columns=["uid", "selected"])
    selected = table.filter(table["selected"])["uid"].to_pylist()
    needed = [stage for need in cell["needs"] for stage in Signal.known[need].artifacts]
    own = {stage: stages.get(stage, {}) for stage in ["selection", *needed]}
    took = [stage.get("seconds", 0.0) for stage in own.values()]
    spent = cost({**run, "stages": own})
    instructions = max(stages["final"]["instructions"], instructions_read(cell["needs"], stages))
    arm = {"arm": "final", "instructions": instructions, "gpu_hours": gpu_hours(stages["final"])}
    hours = [h for h in (arm["gpu_hours"], spent["choosing_gpu_hours"]) if h is not None]
    return {
        "name": cell["name"],
        "selector": cell["selector"],
        "budget": cell["budget"],
        "seed": cell["seed"],
        "scores": measured(scores),
        "tasks": {name: found["tasks"] for name, found in tasks.items()},
        "gaps": gaps_of(tasks),
        "chosen": set(selected),
        "given": given(folder),
        "instructions": instructions,
        "train_samples": stages["final"]["samples"],
        "field_counts": stages["selection"].get("field_counts"),
        "cut_short": stages["final"].get("cut_short"),
        "selection_seconds": round(sum(took), 3),
        "loss": stages["final"].get("loss_last"),
        "fit_seconds": stages["final"].get("fit_seconds"),
        "gpu_hours": sum(hours) if hours else None,
        "cost": price(arm, spent)["total"],
    }


def measured(scores: dict[str, float | None]) -> dict[str, float]:
    """Return the benchmarks' own scores that are not null."""
    return {n: score for n, score in scores.items() if n != RELATIVE and score is not None}


def gaps_of(scores: dict[str, Json]) -> dict[str, float]:
    """Return the gap between groups on each benchmark that has one."""
    return {name: found["gap"] for name, found in scores.items() if "gap" in found}


def given(folder: Path) -> dict[str, int]:
    """Read the number of images of each task that a cell was trained on."""
    with (folder / "selection" / "tasks.csv").open(encoding="utf-8") as handle:
        return {row["task"]: int(row["selected"]) for row in csv.DictReader(handle)}


def add_relative(cells: Sequence[Json], elsewhere: dict[str, float] | None) -> None:
    """Add to each score its share of the full-data score with the same seed and pool."""
    full = {(c["pool"], c["seed"]): c["scores"] for c in cells if c["selector"] == "full"}
    best = {pool: mean_scores(c for c in cells if c["selector"] == "full" and c["pool"] == pool)
            for pool in {c["pool"] for c in cells}}  # fmt: skip
    for cell in cells:
        of = elsewhere or full.get((cell["pool"], cell["seed"])) or best[cell["pool"]]
        cell["of_full"] = {
            name: relative_performance({name: score}, of) for name, score in cell["scores"].items()
        }
        cell[RELATIVE] = relative_performance(cell["scores"], of)


def mean_scores(cells: Iterable[Json]) -> dict[str, float]:
    """Compute the mean score of some cells on each benchmark."""
    found: dict[str, list[float]] = {}
    for cell in cells:
        for name, score in cell["scores"].items():
            found.setdefault(name, []).append(score)
    return {name: mean_sd(scores)[0] for name, scores in found.items()}


def write_rows(path: Path, cells: Sequence[Json]) -> None:
    """Write `comparison.csv`, one row per cell and benchmark."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, COLUMNS, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        for cell in cells:
            for name, score in cell["scores"].items():
                row = {**cell, "benchmark": name, "score": score, RELATIVE: cell["of_full"][name]}
                writer.writerow({column: plain(value) for column, value in row.items()})


def plain(value: Any) -> Any:  # noqa: ANN401 - a cell of a table
    """Round a number to eight digits: 0.3, not 0.30000000000000004."""
    return float(f"{value:.8g}") if isinstance(value, float) else value


def analyze(cells: Sequence[Json]) -> Json:
    """Compute the contents of the page, as JSON values."""
    pools = list(dict.fromkeys(cell["pool"] for cell in cells))
    names = list(dict.fromkeys(name for cell in cells for name in cell["scores"]))
    measure = names[0] if len(names) == 1 else RELATIVE
    budgets = sorted({c["budget"] for c in cells if c["selector"] not in ("full", "untrained")})
    return {
        "pools": pools,
        "benchmarks": names,
        "measure": measure,
        "seeds": sorted({cell["seed"] for cell in cells if cell["seed"] is not None}),
        "budgets": budgets,
        "cells": [{name: cell.get(name) for name in SHOWN} for cell in cells],
        "parts": [
            {
                "pool": pool,
                "budget": budget,
                "rows": rows_of(of_pool := [c for c in cells if c["pool"] == pool], budget, names),
                "differences": differences(of_pool, budget, measure),
                "overlap": overlaps(of_pool, budget),
                "tasks": task_rows(of_pool, budget),
                "field_counts": count_rows(of_pool, budget),
            }
            for pool in pools
            for budget in budgets
        ],
        "over_pools": [
            {
                "budget": budget,
                "differences": differences(over_pools(cells, measure), budget, measure),
            }
            for budget in budgets
            if len(pools) > 1
        ],
    }


def rows_of(cells: Sequence[Json], budget: float, names: Sequence[str]) -> list[Row]:
    """Build one row per method: mean and standard deviation over seeds of every benchmark."""
    at_budget = [c for c in cells if c["budget"] == budget and c["selector"] != "full"]
    methods = list(dict.fromkeys(c["selector"] for c in at_budget))
    whole = {"full": [c for c in cells if c["selector"] == "full"],
             **{m: [c for c in at_budget if c["selector"] == m] for m in methods},
             "untrained": [c for c in cells if c["selector"] == "untrained"]}  # fmt: skip
    rows = []
    for method, group in whole.items():
        if not group:
            continue
        rows.append(
            {
                "selector": method,
                "seeds": len(group),
                "scores": {name: spread([c["scores"].get(name) for c in group]) for name in names},
                "gaps": mean_gaps(group),
                RELATIVE: spread([c[RELATIVE] for c in group]),
                "instructions": round(mean_sd([c["instructions"] for c in group])[0]),
                "train_samples": round(mean_sd([c["train_samples"] for c in group])[0]),
                "selection_seconds": mean_sd([c["selection_seconds"] for c in group])[0],
                "cells": [c["name"] for c in group if "name" in c],
            }
        )
    return rows


def mean_gaps(cells: Sequence[Json]) -> dict[str, tuple[float, float | None]]:
    """Compute mean and standard deviation of the gap between groups on each benchmark that has one."""
    found: dict[str, list[float]] = {}
    for cell in cells:
        for name, gap in cell.get("gaps", {}).items():
            found.setdefault(name, []).append(gap)
    return {name: mean_sd(gaps) for name, gaps in found.items()}


def spread(values: Sequence[float | None]) -> tuple[float, float | None] | None:
    """Compute mean and standard deviation of the values that are not None."""
    known = [value for value in values if value is not None]
    return mean_sd(known) if known else None


def value_of(cell: Json, measure: str) -> float | None:
    """Return the value that methods are compared by."""
    value: float | None = cell[RELATIVE] if measure == RELATIVE else cell["scores"].get(measure)
    return value


def differences(cells: Sequence[Json], budget: float, measure: str) -> list[Row]:
    """Compare each method with `Random` on the same seeds, with Holm's correction."""
    by_method: dict[str, dict[Any, float]] = {}
    for cell in cells:
        value = value_of(cell, measure)
        if cell["budget"] == budget and cell["selector"] != "full" and value is not None:
            by_method.setdefault(cell["selector"], {})[cell["seed"]] = value
    random = by_method.pop(BASELINE, {})
    rows = []
    for method, values in by_method.items():
        seeds = sorted(values.keys() & random.keys())
        if seeds:
            found = paired_difference([values[s] for s in seeds], [random[s] for s in seeds])
            rows.append({"selector": method, **found._asdict(), "holm": None})
    tested = [row for row in rows if row["p"] is not None]
    for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["holm"] = p
    return rows


def over_pools(cells: Sequence[Json], measure: str) -> list[Json]:
    """Average each method, budget and seed over the pools."""
    pools = {cell["pool"] for cell in cells}
    groups: dict[tuple[Any, ...], dict[str, float]] = {}
    for cell in cells:
        if cell["selector"] not in ("full", "untrained"):
            key = (cell["selector"], cell["budget"], cell["seed"])
            groups.setdefault(key, {})[cell["pool"]] = value_of(cell, measure)  # type: ignore[assignment]
    return [
        {"selector": selector, "budget": budget, "seed": seed,
         RELATIVE: (value := mean_sd(list(values.values()))[0]), "scores": {measure: value}}
        for (selector, budget, seed), values in groups.items()
        if values.keys() == pools and None not in values.values()
    ]  # fmt: skip


def overlaps(cells: Sequence[Json], budget: float) -> list[Row]:
    """Compute the mean Jaccard index of two methods' selections over the seeds of both."""
    selected: dict[str, dict[int, set[str]]] = {}
    for cell in cells:
        if cell["budget"] == budget and cell["selector"] not in ("full", "untrained"):
            selected.setdefault(cell["selector"], {})[cell["seed"]] = cell["chosen"]
    rows = []
    for one, other in combinations(selected, 2):
        seeds = selected[one].keys() & selected[other].keys()
        if seeds:
            shared = [overlap(selected[one][seed], selected[other][seed]) for seed in sorted(seeds)]
            rows.append({"one": one, "other": other, "jaccard": mean_sd(shared)[0]})
    return rows


def count_rows(cells: Sequence[Json], budget: float) -> Json | None:
    """Return how many samples of each value of `data.count_key` a method selected.

    The field, and for each value its samples in the pool outside the reference split (of the first
    seed), with a row per method: mean and standard deviation over seeds, and the difference to `Random`
    on the same seeds with its interval. None where nothing is counted.
    """
    found: dict[str, dict[str, dict[int, Json]]] = {}
    field = ""
    for cell in cells:
        if cell["budget"] != budget or cell["selector"] == "full":
            continue
        if counted := cell.get("field_counts"):
            field = counted["field"]
            for value, counts in counted["values"].items():
                by_method = found.setdefault(value, {})
                by_method.setdefault(cell["selector"], {})[cell["seed"]] = counts
    values = []
    for value, by_method in found.items():
        first = next(iter(next(iter(by_method.values())).values()))
        free = first["pool"] - first["reference"]
        rows = [count_row(method, by_method) for method in by_method]
        values.append({"value": value, "pool": free, "rows": rows})
    return {"field": field, "values": values} if values else None


def count_row(method: str, by_method: dict[str, dict[int, Json]]) -> Row:
    """Return the count of one method, and its difference to `Random`."""
    own, random = by_method[method], by_method.get(BASELINE, {})
    shared = sorted(own.keys() & random.keys())
    row: Row = {"selector": method, "count": mean_sd([c["selected"] for c in own.values()])}
    if method == BASELINE or not shared:
        return {**row, "mean": None, "low": None, "high": None}
    found = paired_difference(
        [own[s]["selected"] for s in shared], [random[s]["selected"] for s in shared]
    )
    return {**row, "mean": found.mean, "low": found.low, "high": found.high}


def task_rows(cells: Sequence[Json], budget: float) -> list[Row]:
    """Return each method's images and scores of every task, as means over seeds."""
    rows: dict[str, Row] = {}
    for cell in cells:
        if cell["budget"] != budget or cell["selector"] in ("full", "untrained"):
            continue
        for task, n in cell["given"].items():
            row = rows.setdefault(task, {"task": task, "given": {}, "scores": {}})
            row["given"].setdefault(cell["selector"], []).append(n)
        for scores in cell["tasks"].values():
            for task, score in scores.items():
                row = rows.setdefault(task, {"task": task, "given": {}, "scores": {}})
                row["scores"].setdefault(cell["selector"], []).append(score)
    for row in rows.values():
        for kind in ("given", "scores"):
            row[kind] = {method: mean_sd(values)[0] for method, values in row[kind].items()}
    return list(rows.values())
