"""The figures of a run, read from the files of its folder; missing files are skipped."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from presel_lightning.data.leakage import leakage_path
from presel_lightning.errors import UserError
from presel_lightning.eval.intervals.published import full_scores, published_rows
from presel_lightning.eval.intervals.relative import ARMS
from presel_lightning.eval.intervals.relative_intervals import beside_full
from presel_lightning.eval.intervals.resampling import paired_intervals, score_intervals
from presel_lightning.eval.report.cluster_map import read_maps
from presel_lightning.eval.report.costs import cost, gpu_hours, instructions_read, price, stage_cost
from presel_lightning.eval.report.curves import read_curves
from presel_lightning.eval.report.disagreements import read_disagreements
from presel_lightning.eval.report.gallery import read_gallery
from presel_lightning.eval.report.samples import read_samples
from presel_lightning.run.files import read_json
from presel_lightning.signals import PairedLoss
from presel_lightning.signals.base import made_by

BEFORE = ("pool", "split")
"""Stages that come before those of the signals, in their order."""
AFTER = (
    "selection",
    "annotations",
    "instructions",
    "final",
    "random",
    "full",
    "test_pool",
    "test",
    "benchmarks",
    "report",
)
"""Stages that come after them."""
FIRST = 20
"""Maximum problems shown one by one; the others are counted."""
BINS = 24

Json = dict[str, Any]


def read_run(out: Path) -> Json:
    """Read the figures of a run folder as JSON values.

    Only `run.json` is required. A part whose file is missing is an empty list or dict, and a figure
    that was not measured is None.
    """
    run = _json(out / "run.json")
    table = _json(out / "benchmark.json")
    details = {arm: _json(out / "work" / "scores" / f"{arm}.json") for arm in table}
    stages = run.get("stages", {})
    tasks = read_tasks(out / "selection" / "tasks.csv")
    benchmarks = list(dict.fromkeys(n for row in table.values() for n in row if n != "relative"))
    seed, spent, samples = run.get("seed") or 0, cost(run), read_samples(out)
    intervals = score_intervals(details, seed)
    rows, ahead = beside_full(
        arms(table, stages, run.get("arms_left_out", {}), run.get("needs", [])),
        details,
        read_full_scores(run.get("full_scores")),
        seed,
    )
    return {
        "name": out.resolve().name,
        "started": run.get("started"),
        "about": run.get("about", {}),
        # its page is the last thing that a run makes
        "state": "done" if run.get("state") == "reporting" else run.get("state"),
        "planned": run.get("planned", []),
        "waits_for": stages.get("instructions", {}).get("missing"),
        "seed": run.get("seed"),
        "selector": run.get("selector"),
        "versions": versions(run),
        "counts": counts(run, tasks),
        "benchmarks": benchmarks,
        "arms": [
            {**row, "intervals": intervals.get(row["arm"], {}), "cost": price(row, spent)}
            for row in rows
        ],
        "paired": paired_intervals(details, seed),
        "relative_to_random": ahead,
        "without_interval": [
            name
            for name in benchmarks
            if any(
                row["scores"].get(name) is not None and name not in intervals.get(row["arm"], {})
                for row in rows
            )
        ],
        "published": published_rows(run.get("full_scores"), benchmarks),
        "notices": [*run.get("notices", []), *stages.get("pool", {}).get("notices", [])],
        "warnings": stages.get("selection", {}).get("warnings", []),
        "review": read_review(stages.get("selection", {})),
        "length_correlation": stages.get("selection", {}).get("length_correlation"),
        "field_counts": stages.get("selection", {}).get("field_counts"),
        "cost": spent,
        "test_items": test_items(details),
        "task_scores": task_scores(details),
        "gaps": gaps(details),
        "disagreements": read_disagreements(out, details),
        "tasks": tasks,
        "losses": read_losses(PairedLoss(out / "signals").path),
        "score_histogram": read_scores(out / "selection" / "selection.parquet"),
        "maps": read_maps(out, samples, seed) if samples else [],
        "gallery": read_gallery(out, samples) if samples else None,
        "curves": read_curves(out / "logs", stages),
        "stages": timeline(stages, spent),
        "problems": read_problems(out / "problems.csv"),
        "leakage": read_leakage(leakage_path(out)),
        "validation": read_validation(out / "validation.csv"),
        "copies": stages.get("pool", {}).get("copies"),
        "config": _text(out / "config.yaml"),
    }


def read_review(stage: Json) -> dict[str, int] | None:
    """Return how many samples a person vetoed and pinned; None without a review."""
    found = {name: stage.get(name, 0) for name in ("vetoed", "pinned")}
    return found if any(found.values()) else None


def counts(run: Json, tasks: list[Json]) -> dict[str, int | None]:
    """Return the sample counts of `run.json`, else of its stages and the table of tasks."""
    stages = run.get("stages", {})
    known: dict[str, int | None] = {
        "pool": stages.get("pool", {}).get("samples"),
        "text_only": stages.get("pool", {}).get("text_only"),
        "text_only_trained_on": None,
        "problems": stages.get("pool", {}).get("problems"),
        "tasks": len(tasks) or None,
        "reference": stages.get("split", {}).get("samples"),
        "selected": stages.get("selection", {}).get("samples"),
        "trained_on": stages.get("final", {}).get("samples"),
    }
    return {**known, **run.get("counts", {})}


def arms(table: Json, stages: Json, left_out: dict[str, str], needs: list[str]) -> list[Json]:
    """Build one row per arm: its training samples, its scores, and the cost of its fit.

    Instructions are those that had to exist: those trained on, or all that the signals of the
    selector were computed from where these are more.
    """
    known = [arm for arm in ARMS if arm in {*table, *stages, *left_out}]
    trained = {arm: stages.get(arm, {}).get("instructions") for arm in known} | {"untrained": 0}
    if trained.get("final") is not None:
        trained["final"] = max(trained["final"], instructions_read(needs, stages))
    return [
        {
            "arm": arm,
            "samples": 0 if arm == "untrained" else stages.get(arm, {}).get("samples"),
            "instructions": trained[arm],
            "scores": {n: s for n, s in table.get(arm, {}).items() if n != "relative"},
            "relative": table.get(arm, {}).get("relative"),
            "seconds": stages.get(arm, {}).get("fit_seconds", stages.get(arm, {}).get("seconds")),
            "gpu_hours": gpu_hours(stages.get(arm, {})),
            "left_out": left_out.get(arm),
        }
        for arm in known
    ]


def versions(run: Json) -> dict[str, str]:
    """Versions that the stages were made by, several where they differ; else those of the run."""
    made = [stage["versions"] for stage in run.get("stages", {}).values() if "versions" in stage]
    names = dict.fromkeys(name for each in [run.get("versions", {}), *made] for name in each)
    by_stages = {n: dict.fromkeys(each[n] for each in made if n in each) for n in names}
    return {n: " and ".join(by_stages[n]) or run["versions"][n] for n in names}


def test_items(details: dict[str, Json]) -> dict[str, int]:
    """Return the number of test answers of each benchmark."""
    return {
        name: part["n"]
        for scores in details.values()
        for name, part in scores.get("benchmarks", {}).items()
        if part.get("n")
    }


def task_scores(details: dict[str, Json]) -> dict[str, dict[str, dict[str, float]]]:
    """Return the scores as {benchmark: {task: {arm: score}}}."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for arm, scores in details.items():
        for name, part in scores.get("benchmarks", {}).items():
            for task, score in part.get("tasks", {}).items():
                found.setdefault(name, {}).setdefault(task, {})[arm] = score
    return found


def gaps(details: dict[str, Json]) -> dict[str, dict[str, float]]:
    """Return the gaps between groups as {benchmark: {arm: gap}}."""
    found: dict[str, dict[str, float]] = {}
    for arm, scores in details.items():
        for name, part in scores.get("benchmarks", {}).items():
            if "gap" in part:
                found.setdefault(name, {})[arm] = part["gap"]
    return found


def timeline(stages: Json, spent: Json) -> list[Json]:
    """Return the stages in the order of the recipe, each with its name, GPU-hours and cost."""
    of_signals = [*made_by(on_reference=True), *made_by(on_reference=False)]
    order = dict.fromkeys([*BEFORE, *of_signals, *AFTER, *stages])
    known = [name for name in order if name in stages]
    return [{"stage": name, **stages[name], **stage_cost(stages[name], spent)} for name in known]


def read_full_scores(source: str | None) -> dict[str, float] | None:
    """Read external scores of full-data tuning; {} where the file is missing, None without."""
    if not source:
        return None
    try:
        return full_scores(source)
    except UserError:
        return {}


def read_tasks(path: Path) -> list[Json]:
    """Read the rows of `tasks.csv` with numbers parsed; an empty cell is None."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    return [{k: v if k == "task" else _number(v) for k, v in row.items()} for row in rows]


def read_losses(path: Path) -> list[Json]:
    """Compute the mean paired losses per task, over the samples where both are finite."""
    if not path.is_file():
        return []
    pair = ["loss_with_question", "loss_without_question"]
    table = pq.read_table(path, columns=["task", *pair])
    finite = pc.and_(pc.is_finite(table[pair[0]]), pc.is_finite(table[pair[1]]))
    table = table.filter(finite)
    figures = [([], "count_all"), *((name, "mean") for name in pair)]
    means = table.group_by("task").aggregate(figures).sort_by("task")
    names = ["task", "samples", "with_question", "without_question"]
    rows: list[Json] = means.rename_columns(names).to_pylist()
    return rows


def read_scores(path: Path) -> Json | None:
    """Compute the histograms of the scores of selected samples and of those left out."""
    if not path.is_file():
        return None
    table = pq.read_table(path, columns=["score", "selected"])
    score = table["score"].to_numpy(zero_copy_only=False).astype(np.float64)
    selected = table["selected"].to_numpy(zero_copy_only=False).astype(bool)
    scored = np.isfinite(score)
    if not scored.any():
        return None
    edges = np.histogram_bin_edges(score[scored], BINS)
    return {
        "edges": edges.tolist(),
        "chosen": np.histogram(score[scored & selected], edges)[0].tolist(),
        "left_out": np.histogram(score[scored & ~selected], edges)[0].tolist(),
    }


def read_validation(path: Path) -> list[Json]:
    """Read what the scores of selectors were worth in `validate`, the best first."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as handle:
        rows = [{**row, "subsets": int(row["subsets"]), **{k: float(row[k]) for k in ("score", "low", "high")}} for row in csv.DictReader(handle)]  # fmt: skip
    return sorted(rows, key=lambda row: -row["score"])


def read_leakage(path: Path) -> Json | None:
    """Count the samples that share something with a benchmark; None where none was looked for.

    Returns:
        `samples`: of any kind; `kinds`: samples by benchmark and kind of leak.
    """
    if not path.is_file():
        return None
    with path.open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    kinds = Counter((row["benchmark"], row["kind"]) for row in rows)
    return {
        "samples": len({row["uid"] for row in rows}),
        "kinds": [
            {"benchmark": benchmark, "kind": kind, "samples": n}
            for (benchmark, kind), n in sorted(kinds.items())
        ],
    }


def read_problems(path: Path) -> Json:
    """Count the records left out, by kind, and return the first of them."""
    if not path.is_file():
        return {"total": None, "kinds": {}, "first": []}
    kinds: Counter[str] = Counter()
    first: list[dict[str, str]] = []
    with path.open(encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            kinds[row["problem"]] += 1
            if len(first) < FIRST:
                first.append({"file": "", "record": "", **row})  # earlier runs have neither
    return {"total": kinds.total(), "kinds": dict(kinds.most_common()), "first": first}


def _number(text: str) -> float | int | None:
    try:
        value = float(text)
    except ValueError:
        return None
    if not np.isfinite(value):
        return None
    return int(text) if text.lstrip("+-").isdigit() else value


def _json(path: Path) -> Json:
    content: Json = read_json(path) if path.is_file() else {}
    return content


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None
