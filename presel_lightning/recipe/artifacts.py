"""The files of a run folder that people and other tools read."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from presel_lightning.data.pool import Pool
from presel_lightning.records import Selection, with_own
from presel_lightning.run.files import replacing, write_json
from presel_lightning.run.fingerprint import digest_lines


def write_llava(
    path: Path, pool: Pool, uids: np.ndarray, weights: Mapping[str, float] | None = None
) -> None:
    """Write samples as LLaVA JSON, a record a line, each with its uid and task under `presel`.

    Args:
        path: of the file.
        pool: every sample.
        uids: the samples to write.
        weights: training weights other than 1, by uid; written as `presel.weight`.
    """
    weights = weights or {}
    rows = np.sort(pool.rows(uids))
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as handle:
        handle.write("[")
        for number, row in enumerate(rows):
            uid = pool.uid[row]
            weight = {"weight": weights[uid]} if uid in weights else {}
            record = with_own(pool.record(row), {"uid": uid, "task": pool.task[row]}, weight)
            handle.write(",\n" if number else "\n")
            handle.write(json.dumps(record, ensure_ascii=False))
        handle.write("\n]\n")


def write_selection(
    out: Path, pool: Pool, selection: Selection, irs: Mapping[str, np.ndarray]
) -> None:
    """Write `selection.parquet` (a row a sample) and `tasks.csv` (a row a task).

    Args:
        out: the run folder.
        pool: with its reference split.
        selection: what is added to it.
        irs: of each task's reference samples, where they are known: not every method asks for them.
    """
    selected = pool.reference.copy()
    selected[pool.rows(selection.uids)] = True
    weight = np.ones(len(pool))
    weight[pool.rows(selection.uids)] = selection.weights
    table = pa.table(
        {
            "uid": pa.array(pool.uid, pa.string()),
            "task": pa.array(pool.task, pa.string()),
            "cluster": pa.array(selection.cluster, pa.int32()),
            "score": pa.array(selection.score, pa.float64(), from_pandas=True),
            "rank": pa.array(selection.rank, pa.int32()),
            "selected": pa.array(selected),
            "weight": pa.array(weight, pa.float64()),
            "reason": pa.array(selection.reason, pa.string()),
        }
    )
    with replacing(out / "selection" / "selection.parquet") as path:
        pq.write_table(table, path)
    rows = [
        task_row(task, pool, selection, selected, irs.get(task, np.empty(0))) for task in pool.tasks
    ]
    path = out / "selection" / "tasks.csv"
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_manifest(out: Path, pool: Pool, selection: Selection, facts: Mapping[str, Any]) -> None:
    """Write `manifest.json`: which samples are trained on, to be published and read back.

    It names each by uid, id, image and content of the image, without its instruction; `FromFile`
    reads it.

    Args:
        out: the run folder.
        pool: with its reference split.
        selection: what is added to it.
        facts: method, versions, seed.
    """
    rows = pool.rows(selection.uids)
    weight = np.ones(len(pool))
    weight[rows] = selection.weights
    samples = [
        {
            "uid": pool.uid[row],
            "id": pool.id[row],
            "image": pool.image[row],
            "image_digest": pool.image_digest[row].tobytes().hex(),
            "task": pool.task[row],
            "split": "reference" if pool.reference[row] else "selected",
            **({"weight": float(weight[row])} if weight[row] != 1 else {}),
        }
        for row in np.sort(np.concatenate([np.flatnonzero(pool.reference), rows]))
    ]
    manifest = {**facts, "image_digest": "blake2b-128 of the file", "samples": samples}
    write_json(out / "selection" / "manifest.json", manifest)


def task_row(
    task: str, pool: Pool, selection: Selection, selected: np.ndarray, irs: np.ndarray
) -> dict[str, Any]:
    """What became of one task; empty where the method knows no such figure."""
    rows = pool.task_rows(task)
    defined = irs[np.isfinite(irs)]
    deviation = defined.std(ddof=1) / np.sqrt(len(defined)) if len(defined) > 1 else None
    return {
        "task": task,
        "size": len(rows),
        "reference": int(pool.reference[rows].sum()),
        "irs_mean": float(defined.mean()) if len(defined) else None,
        "irs_sem": deviation,
        "undefined": len(irs) - len(defined),
        "weight": selection.task_weights.get(task),
        "budget": selection.budgets[task],
        "selected": int(selected[rows].sum()),
    }


def read_reasons(out: Path) -> dict[str, str]:
    """Why each sample that is to be trained on was chosen."""
    table = pq.read_table(
        out / "selection" / "selection.parquet",
        columns=["uid", "reason"],
        filters=[("selected", "==", True)],
    )
    return dict(zip(table["uid"].to_pylist(), table["reason"].to_pylist(), strict=True))


def read_weights(out: Path) -> dict[str, float]:
    """Training weights other than 1 of what is to be trained on, by uid."""
    table = pq.read_table(
        out / "selection" / "selection.parquet",
        columns=["uid", "weight"],
        filters=[("selected", "==", True), ("weight", "!=", 1.0)],
    )
    return dict(zip(table["uid"].to_pylist(), table["weight"].to_pylist(), strict=True))


def weights_digest(weights: Mapping[str, float]) -> str:
    """Name training weights, in any order of the uids."""
    return digest_lines(f"{uid} {weight!r}" for uid, weight in sorted(weights.items()))


def read_selected(out: Path) -> np.ndarray:
    """Uids of everything that is to be trained on: the reference and what was added to it."""
    table = pq.read_table(out / "selection" / "selection.parquet", columns=["uid", "selected"])
    uids = np.asarray(table["uid"].to_pylist(), dtype=object)
    selected: np.ndarray = uids[table["selected"].to_numpy(zero_copy_only=False)]
    return selected


def records_digest(pool: Pool, uids: np.ndarray) -> str:
    """Name samples by what a fit sees of them: uid, content of the image file, conversation."""
    rows = np.sort(pool.rows(uids))
    return digest_lines(
        f"{pool.uid[row]} {pool.image_digest[row].tobytes().hex()} "
        f"{pool.turns_digest[row].tobytes().hex()}"
        for row in rows
    )
