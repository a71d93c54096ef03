"""The files of a run folder that people and other tools read."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from presel_lightning.data.pool import Pool
from presel_lightning.records import Selection
from presel_lightning.signals import Signals
from presel_lightning.store import replacing, write_text


def write_llava(path: Path, pool: Pool, uids: np.ndarray) -> None:
    """Write samples as LLaVA JSON, a record a line, each with its uid and task."""
    rows = np.sort(pool.rows(uids))
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as handle:
        handle.write("[")
        for number, row in enumerate(rows):
            record = {**pool.record(row), "uid": pool.uid[row], "task": pool.task[row]}
            handle.write(",\n" if number else "\n")
            handle.write(json.dumps(record, ensure_ascii=False))
        handle.write("\n]\n")


def write_requests(path: Path, pool: Pool, uids: np.ndarray, why: str) -> None:
    """Write a line for each image whose instruction somebody has to write."""
    lines = []
    for row in np.sort(pool.rows(uids)):
        request = {"uid": pool.uid[row], "image": pool.image[row], "task": pool.task[row]}
        lines.append(json.dumps({**request, "why": why}, ensure_ascii=False) + "\n")
    write_text(path, "".join(lines))


def write_selection(out: Path, pool: Pool, selection: Selection, signals: Signals) -> None:
    """Write `selection.parquet` (a row a sample) and `tasks.csv` (a row a task)."""
    selected = pool.reference.copy()
    selected[pool.rows(selection.uids)] = True
    table = pa.table(
        {
            "uid": pa.array(pool.uid.tolist()),
            "task": pa.array(pool.task.tolist()),
            "cluster": pa.array(selection.cluster, pa.int32()),
            "score": pa.array(selection.score, pa.float64(), from_pandas=True),
            "rank": pa.array(selection.rank, pa.int32()),
            "selected": pa.array(selected),
            "reason": pa.array(selection.reason.tolist()),
        }
    )
    with replacing(out / "selection" / "selection.parquet") as path:
        pq.write_table(table, path)
    rows = [task_row(task, pool, selection, selected, signals) for task in pool.tasks]
    path = out / "selection" / "tasks.csv"
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def task_row(
    task: str, pool: Pool, selection: Selection, selected: np.ndarray, signals: Signals
) -> dict[str, Any]:
    """What became of one task; empty where the method knows no such figure."""
    rows = pool.task_rows(task)
    irs, undefined = task_irs(task, pool, signals)
    deviation = irs.std(ddof=1) / np.sqrt(len(irs)) if len(irs) > 1 else None
    return {
        "task": task,
        "size": len(rows),
        "reference": int(pool.reference[rows].sum()),
        "irs_mean": float(irs.mean()) if len(irs) else None,
        "irs_sem": deviation,
        "undefined": undefined,
        "weight": selection.task_weights.get(task),
        "budget": selection.budgets[task],
        "selected": int(selected[rows].sum()),
    }


def task_irs(task: str, pool: Pool, signals: Signals) -> tuple[np.ndarray, int]:
    """Defined IRS values of a task's reference samples, and how many are undefined."""
    if not pool.reference.any():
        return np.empty(0), 0
    table = signals.paired_loss()
    irs = table["irs"].to_numpy(zero_copy_only=False).astype(np.float64)
    irs = irs[np.asarray(table["task"].to_pylist()) == task]
    defined = irs[np.isfinite(irs)]
    return defined, len(irs) - len(defined)


def read_selected(out: Path) -> np.ndarray:
    """Uids of everything that is to be trained on: the reference and what was added to it."""
    table = pq.read_table(out / "selection" / "selection.parquet", columns=["uid", "selected"])
    uids = np.asarray(table["uid"].to_pylist(), dtype=object)
    selected: np.ndarray = uids[table["selected"].to_numpy(zero_copy_only=False)]
    return selected
