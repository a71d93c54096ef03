"""Run folders made by hand, of any size, with the files that the report's pictures need."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


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
