"""Every sample of a run and its outcome, for the pictures of the report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

LEFT_OUT, CHOSEN, REFERENCE = range(3)
KINDS = ("left out", "selected", "reference")
COLUMNS = ("uid", "task", "cluster", "score", "selected", "reason")


def score_name(selector: str | None) -> str:
    """Return the name of a selector's score."""
    return "Neighbor Centrality" if selector in (None, "PreSel") else f"score of {selector}"


@dataclass(frozen=True)
class Samples:
    """The rows of `selection.parquet`.

    Attributes:
        uid: (N,) bytes.
        task: (N,) index of the task in `tasks`.
        tasks: task names, sorted.
        cluster: (N,) cluster inside the task; -1 where the method has no clusters.
        score: (N,) score of the selector, higher is better; NaN where there is none.
        kind: (N,) LEFT_OUT, CHOSEN or REFERENCE.
        reason: (N,) reason of the selector.
    """

    uid: np.ndarray
    task: np.ndarray
    tasks: list[str]
    cluster: np.ndarray
    score: np.ndarray
    kind: np.ndarray
    reason: np.ndarray

    def rows(self, task: int, kind: int | None = None) -> np.ndarray:
        """Return the row numbers of a task, all or those of one kind."""
        found = self.task == task
        return np.flatnonzero(found if kind is None else found & (self.kind == kind))

    def names(self, rows: np.ndarray) -> list[str]:
        """Return uids as text."""
        return [uid.decode() for uid in self.uid[rows].tolist()]

    def scores(self, rows: np.ndarray) -> list[float | None]:
        """Return scores as JSON values."""
        return [round(s, 5) if np.isfinite(s) else None for s in self.score[rows].tolist()]


def read_samples(out: Path) -> Samples | None:
    """Read `selection.parquet` of a run; None where there is no selection."""
    path = out / "selection" / "selection.parquet"
    if not path.is_file() or not set(COLUMNS) <= set(pq.read_schema(path).names):
        return None
    table = pq.read_table(path, columns=list(COLUMNS))
    names, task = np.unique(np.array(table["task"].to_pylist(), dtype=str), return_inverse=True)
    selected = _numbers(table["selected"], False).astype(bool)
    reference = pc.equal(table["reason"], "reference split")
    kind = np.where(_numbers(reference, False), REFERENCE, np.where(selected, CHOSEN, LEFT_OUT))
    return Samples(
        uid=np.array(table["uid"].to_pylist(), dtype="S32"),
        task=task,
        tasks=names.tolist(),
        cluster=_numbers(table["cluster"], -1).astype(int),
        score=_numbers(table["score"], np.nan).astype(float),
        kind=kind,
        reason=np.array(table["reason"].to_pylist(), dtype=object),
    )


def image_names(out: Path, uids: Iterable[str]) -> dict[str, str]:
    """Read the image paths of some uids from `pool.parquet`, relative to the image root."""
    path = out / "pool.parquet"
    if not path.is_file():
        return {}
    wanted = pa.array(list(uids), pa.string())
    table = pq.read_table(path, columns=["uid", "image"])
    table = table.filter(pc.is_in(table["uid"], value_set=wanted))
    return dict(zip(table["uid"].to_pylist(), table["image"].to_pylist(), strict=True))


def image_counts(out: Path, uids: Iterable[str]) -> dict[str, int]:
    """Read the number of images of the records among some uids that have several."""
    path = out / "pool.parquet"
    if not path.is_file() or "images" not in pq.read_schema(path).names:
        return {}
    wanted = pa.array(list(uids), pa.string())
    table = pq.read_table(path, columns=["uid", "images"])
    table = table.filter(
        pc.and_(pc.is_in(table["uid"], value_set=wanted), pc.is_valid(table["images"]))
    )
    counts = pc.list_value_length(table["images"]).to_pylist()
    return dict(zip(table["uid"].to_pylist(), counts, strict=True))


def _numbers(column: pa.ChunkedArray, missing: float) -> np.ndarray:
    values: np.ndarray = pc.fill_null(column, missing).to_numpy()
    return values
