"""Run folders made by hand, of any size, with the files that the report's pictures need."""

from __future__ import annotations

import csv
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from presel_lightning.eval.intervals.relative import benchmark_table
from presel_lightning.eval.report.report import write_report

TASK_COLUMNS = "task,size,reference,irs_mean,irs_sem,undefined,weight,budget,selected".split(",")  # noqa: SIM905
HOSTILE = "<script>alert(1)</script>"
TASKS = ["colour", "count", "ocr & digits", "position", "caption", HOSTILE]
SIZES = [120, 100, 80, 80, 60, 40]
BUDGETS = [6, 12, 10, 9, 7, 4]
REFERENCE = [6, 5, 4, 4, 3, 2]
ARM_TASKS = {
    "final": [62.5, 40.0, 55.0, 47.5, 30.0, 70.0],
    "full": [90.0, 62.5, 75.0, 70.0, 47.5, 85.0],
    "random": [67.5, 42.5, 52.5, 50.0, 35.0, 72.5],
    "untrained": [20.0, 12.5, 0.0, 10.0, 2.5, 30.0],
}
SECONDS = {
    "pool": 0.41,
    "split": 0.02,
    "reference": 3.25,
    "losses": 1.5,
    "features": 2.25,
    "selection": 0.5,
    "instructions": 0.03,
    "final": 9.75,
    "random": 9.5,
    "full": 61.25,
    "benchmarks": 4.0,
}


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_run(out: Path) -> None:
    """The files that a finished run leaves, 480 images in six tasks."""
    samples = {"reference": 24, "final": 72, "random": 72, "full": 480}
    stages: dict[str, dict[str, Any]] = {
        name: {
            "status": "done",
            "fingerprint": "0123456789abcdef",
            "seconds": seconds,
            "peak_memory_mb": 512.5,
            "artifact": "x",
            "device": "cpu",
            **(
                {"samples": samples[name], "instructions": samples[name]} if name in samples else {}
            ),
        }
        for name, seconds in SECONDS.items()
    }
    counts = {"pool": 480, "text_only": 3, "problems": 2, "tasks": 6}
    counts |= {"reference": 24, "selected": 48, "trained_on": 72}
    run = {"seed": 7, "state": "done", "versions": {"torch": "2.13.0"}, "counts": counts}
    write_json(out / "run.json", {**run, "selector": "PreSel", "stages": stages})
    details = {
        arm: {"shapes": {"score": mean(s), "tasks": dict(zip(TASKS, s)), "n": 240, "seconds": 1.0}}
        for arm, s in ARM_TASKS.items()
    }
    for arm, benchmarks in details.items():
        write_json(out / "work/scores" / f"{arm}.json", {"key": "k", "benchmarks": benchmarks})
    table = benchmark_table({arm: {"shapes": mean(s)} for arm, s in ARM_TASKS.items()})
    write_json(out / "benchmark.json", table)
    write_selection(out)
    (out / "config.yaml").write_text("seed_everything: 7\nselector: PreSel  # <b>\n")
    with (out / "problems.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["id", "image", "task", "problem", "detail"])
        writer.writerow(["a1", "a/1.jpg", "count", "image missing", "no such file"])
        writer.writerow(["a2", "a/2.jpg", HOSTILE, "image missing", "<img src=x>"])


def keep(run: Path, name: str, arms: dict[str, dict[str, Any]]) -> None:
    """Add a benchmark to a run, with all that was kept of it."""
    table = json.loads((run / "benchmark.json").read_text())
    for arm, part in arms.items():
        table[arm][name] = part["score"]
        path = run / "work/scores" / f"{arm}.json"
        found = json.loads(path.read_text())
        found["benchmarks"][name] = {"tasks": {}, "n": 4, "seconds": 1.0, **part}
        write_json(path, found)
    write_json(run / "benchmark.json", table)


def write_selection(out: Path) -> None:
    rng = np.random.default_rng(0)
    (out / "selection").mkdir()
    (out / "signals").mkdir()
    task = np.repeat(TASKS, SIZES)
    score = rng.normal(0.8, 0.05, len(task))
    selected = np.zeros(len(task), dtype=bool)
    start = 0
    for size, reference, budget in zip(SIZES, REFERENCE, BUDGETS):
        score[start : start + reference] = np.nan
        selected[start : start + reference] = True
        best = start + reference + np.argsort(-score[start + reference : start + size])[:budget]
        selected[best] = True
        start += size
    columns = {"task": task.tolist(), "score": score.tolist(), "selected": selected.tolist()}
    pq.write_table(pa.table(columns), out / "selection" / "selection.parquet")
    with_question, without = rng.uniform(0.1, 1, 24), rng.uniform(1, 3, 24)
    with_question[0] = np.inf  # a loss that is not finite stays out of the mean
    columns = {
        "task": np.repeat(TASKS, REFERENCE).tolist(),
        "loss_with_question": with_question.tolist(),
        "loss_without_question": without.tolist(),
    }
    pq.write_table(pa.table(columns), out / "signals" / "paired_loss.parquet")
    with (out / "selection" / "tasks.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(TASK_COLUMNS)
        for i, name in enumerate(TASKS):
            irs = ["", ""] if i == 5 else [0.2 + 0.1 * i, 0.01]
            weight = BUDGETS[i] / 48
            row = [name, SIZES[i], REFERENCE[i], *irs, int(i == 0), weight, BUDGETS[i]]
            writer.writerow([*row, REFERENCE[i] + BUDGETS[i]])


class Page(HTMLParser):
    """Text of the page's table cells and headings, and everything that would load a resource."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            if name in ("src", "srcset", "data") or (name == "href" and tag != "a"):
                self.loads.append(str(value))

    def handle_data(self, data: str) -> None:
        self.text.append(data.strip())


def report_of(out: Path) -> tuple[dict[str, Any], str]:
    page = write_report(out)
    assert page == out / "report" / "index.html"
    return json.loads((out / "report" / "report.json").read_text()), page.read_text()


def write_samples(
    out: Path, sizes: dict[str, int], *, share: float = 0.15, seed: int = 0, images: int = 8
) -> pa.Table:
    """Selection, pool, features and images of a run; in every task a third of `share` is reference.

    Each task has a cluster for every 100 images, around a centre of its own; score is uniform.
    """
    rng = np.random.default_rng(seed)
    n = sum(sizes.values())
    task = np.repeat(list(sizes), list(sizes.values()))
    uid = np.array([f"{i:032x}" for i in range(n)])
    cluster = np.concatenate(
        [np.arange(size) * max(1, size // 100) // size for size in sizes.values()]
    )
    score = rng.uniform(0, 1, n).round(6)
    reason = np.full(n, "less typical of its cluster", dtype=object)
    for name in sizes:
        rows = np.flatnonzero(task == name)
        reference = rng.choice(rows, max(1, round(share / 3 * len(rows))), replace=False)
        rest = np.setdiff1d(rows, reference)
        best = rest[np.argsort(-score[rest])][: round(share * 2 / 3 * len(rows))]
        reason[best], reason[reference] = "typical of its cluster", "reference split"
        score[reference] = np.nan
    columns: dict[str, Any] = {
        "uid": uid,
        "task": task,
        "cluster": pa.array(cluster, pa.int32()),
        "score": pa.array(score, from_pandas=True),
        "rank": pa.array(np.arange(n), pa.int32()),
        "selected": reason != "less typical of its cluster",
        "reason": pa.array(reason.tolist()),
    }
    table = pa.table(columns)
    (out / "selection").mkdir(parents=True, exist_ok=True)
    pq.write_table(table, out / "selection" / "selection.parquet")
    names = [f"images/{i % images}.jpg" for i in range(n)]
    pq.write_table(pa.table({"uid": uid, "image": names}), out / "pool.parquet")
    features = out / "signals" / "features"
    features.mkdir(parents=True, exist_ok=True)
    _, group = np.unique([f"{t} {c}" for t, c in zip(task, cluster)], return_inverse=True)
    centres = rng.normal(0, 1, (group.max() + 1, 12))
    matrix = centres[group] + rng.normal(0, 0.2, (n, 12))
    shuffled = rng.permutation(n)  # rows of features.npy have an order of their own
    np.save(features / "features.npy", matrix[shuffled].astype(np.float16))
    np.save(features / "uid.npy", uid[shuffled].astype("S32"))
    (out / "images").mkdir(exist_ok=True)
    for i in range(images):
        pixels = rng.integers(0, 255, (120, 160, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(out / "images" / f"{i}.jpg", quality=90)
    return table


def write_ledger(out: Path, **facts: Any) -> None:
    """A `run.json` of a finished run."""
    run = {"seed": 0, "state": "done", "selector": "PreSel", "stages": {}, **facts}
    (out / "run.json").write_text(json.dumps(run))


def write_tasks(out: Path, table: pa.Table) -> None:
    """`tasks.csv` of a selection."""
    rows = table.to_pylist()
    with (out / "selection" / "tasks.csv").open("w", newline="") as handle:
        names = [
            "task",
            "size",
            "reference",
            "irs_mean",
            "irs_sem",
            "undefined",
            "weight",
            "budget",
            "selected",
        ]
        writer = csv.writer(handle)
        writer.writerow(names)
        for task in sorted({row["task"] for row in rows}):
            mine = [row for row in rows if row["task"] == task]
            reference = sum(row["reason"] == "reference split" for row in mine)
            selected = sum(row["selected"] for row in mine)
            irs = [0.5, 0.01, 0, 0.1]
            writer.writerow([task, len(mine), reference, *irs, selected - reference, selected])
