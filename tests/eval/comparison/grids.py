"""Folders of comparisons made by hand, with the files that a page is made from."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

HOSTILE = "<script>alert(1)</script>"

Json = dict[str, Any]


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_grid(out: Path, scores: dict[str, list[float | None]], benchmark: str = "shapes") -> None:
    """The files of cells that `read_cells` reads; None for an unfinished cell."""
    grid = []
    for selector, values in scores.items():
        for seed, score in enumerate(values):
            budget = 1.0 if selector == "full" else 0.5
            name = f"{selector}-{budget:g}-{seed}"
            needs = ["features", "paired_loss", "held_out_loss"] if selector == "A" else []
            grid.append({"name": name, "selector": selector, "budget": budget, "seed": seed})
            grid[-1] |= {"spec": {}, "needs": needs}
            if score is not None:
                write_cell(out / "cells" / name, score, benchmark)
    write_json(out / "grid.json", {"cells": grid})
    write_json(out / "benchmark.json", {"untrained": {benchmark: 5.0, "relative": None}})
    write_json(out / "run.json", {"stages": {}})


def write_cell(folder: Path, score: float, benchmark: str) -> None:
    table = {"score": score, "tasks": {HOSTILE: score}, "n": 10}
    write_json(folder / "benchmark.json", {"final": {benchmark: score, "relative": None}})
    write_json(folder / "work" / "scores" / "final.json", {"benchmarks": {benchmark: table}})
    made = ("features", "reference", "losses", "held_out_a", "held_out_b", "held_out")
    stages: Json = {name: {"seconds": 1.0} for name in (*made, "selection")}
    stages["final"] = {"samples": 4, "instructions": 4, "loss_last": score / 100}
    write_json(folder / "run.json", {"stages": stages, "state": "done"})
    (folder / "selection").mkdir()
    uids = [f"{number:032x}" for number in range(8)]
    chosen = [number % 2 == 0 for number in range(8)]
    pq.write_table(
        pa.table({"uid": uids, "selected": chosen}), folder / "selection" / "selection.parquet"
    )
    with (folder / "selection" / "tasks.csv").open("w") as handle:
        csv.writer(handle).writerows([["task", "selected"], [HOSTILE, 4]])
