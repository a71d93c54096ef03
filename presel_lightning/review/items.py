"""The images of a run, in the order in which the page shows them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from presel_lightning.errors import UserError
from presel_lightning.eval.report.samples import CHOSEN, LEFT_OUT, REFERENCE, read_samples

Json = dict[str, Any]

GROUPS = np.array([2, 0, 1])
"""Place of LEFT_OUT, CHOSEN and REFERENCE among the images of a task."""


@dataclass(frozen=True)
class Items:
    """Images sorted by task: the selected ones best first, the reference split, the others.

    Attributes:
        uid: (N,) uids.
        task: (N,) index of the task in `tasks`.
        tasks: task names, sorted.
        kind: (N,) LEFT_OUT, CHOSEN or REFERENCE.
        score: (N,) score of the selector; NaN where there is none.
        cluster: (N,) cluster inside the task; -1 where there is none.
        reason: (N,) reason of the selector.
        image: (N,) path of the image, of several the first.
        requests: records of `requests.jsonl` by uid: images without an instruction.
        several: paths of all images of the records that have several, by uid.
    """

    uid: np.ndarray
    task: np.ndarray
    tasks: list[str]
    kind: np.ndarray
    score: np.ndarray
    cluster: np.ndarray
    reason: np.ndarray
    image: np.ndarray
    requests: dict[str, Json] = field(default_factory=dict)
    several: dict[str, list[str]] = field(default_factory=dict)

    @cached_property
    def row(self) -> dict[str, int]:
        """Row number of each uid."""
        return {uid: row for row, uid in enumerate(self.uid.tolist())}

    @cached_property
    def _lowered(self) -> list[str]:
        return [name.lower() for name in self.image.tolist()]

    def images(self, row: int) -> list[str]:
        """Return the paths of a row's images."""
        return self.several.get(self.uid[row], [str(self.image[row])])

    def having(self, uids: Callable[[str], bool]) -> np.ndarray:
        """Mark the rows whose uid has a property, (N,) bool."""
        return np.fromiter(map(uids, self.uid.tolist()), dtype=bool, count=len(self.uid))

    def matching(self, text: str) -> np.ndarray:
        """Mark the rows whose file name holds a text or whose uid begins with it, (N,) bool."""
        text = text.lower()
        found = [text in name for name in self._lowered]
        marks = self.having(lambda uid: uid.startswith(text))
        marks |= np.array(found, dtype=bool)
        return marks


def files_of(out: Path) -> list[Path]:
    """Return the files that the items are read from."""
    folder = out / "selection"
    return [folder / "selection.parquet", folder / "requests.jsonl", out / "pool.parquet"]


def read_items(out: Path) -> Items:
    """Read the images of a run: of its selection, or those that wait before there is one.

    Raises:
        UserError: the run has neither.
    """
    requests = _requests(out)
    samples = read_samples(out)
    if samples is None:
        return _of_requests(out, requests)
    group = GROUPS[samples.kind]
    score = np.nan_to_num(samples.score, nan=-np.inf)
    order = np.lexsort((samples.uid, -score, group, samples.task))
    uid = samples.uid[order].astype(str).astype(object)
    image, several = _images(out, uid)
    return Items(
        uid,
        samples.task[order],
        samples.tasks,
        samples.kind[order],
        samples.score[order],
        samples.cluster[order],
        samples.reason[order],
        image,
        requests,
        several,
    )


def _requests(out: Path) -> dict[str, Json]:
    path = out / "selection" / "requests.jsonl"
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8").split("\n")
    return {record["uid"]: record for record in map(json.loads, filter(None, lines))}


def _of_requests(out: Path, requests: dict[str, Json]) -> Items:
    """Return the images that wait for an instruction before anything is selected."""
    if not requests:
        raise UserError(
            f"--run {out}: no selection there yet; give a folder in which `select` or `fit` has "
            "made one, or waits for instructions"
        )
    found = sorted(requests.values(), key=lambda r: (r["task"], r["uid"]))
    tasks = sorted({record["task"] for record in found})
    n = len(found)
    return Items(
        np.array([record["uid"] for record in found], dtype=object),
        np.array([tasks.index(record["task"]) for record in found]),
        tasks,
        np.array([REFERENCE if r["why"] == "reference split" else CHOSEN for r in found]),
        np.full(n, np.nan),
        np.full(n, -1),
        np.array([record["why"] for record in found], dtype=object),
        np.array([record["image"] for record in found], dtype=object),
        requests,
        {r["uid"]: r["images"] for r in found if "images" in r},
    )


def _images(out: Path, uid: np.ndarray) -> tuple[np.ndarray, dict[str, list[str]]]:
    """Read the image of each uid, and all images of the records that have several."""
    path = out / "pool.parquet"
    names = ["uid", "image", *(["images"] if "images" in pq.read_schema(path).names else [])]
    table = pq.read_table(path, columns=names)
    first = dict(zip(table["uid"].to_pylist(), table["image"].to_pylist(), strict=True))
    several: dict[str, list[str]] = {}
    if "images" in names:
        pairs = zip(table["uid"].to_pylist(), table["images"].to_pylist(), strict=True)
        several = {each: images for each, images in pairs if images}
    return np.array([first.get(each, "") for each in uid], dtype=object), several


def counts(items: Items, waiting: np.ndarray) -> list[Json]:
    """Count the images of each task: selected, reference, left out, and without an instruction."""
    n = len(items.tasks)

    def count(marked: np.ndarray) -> list[int]:
        found: list[int] = np.bincount(items.task[marked], minlength=n).tolist()
        return found

    columns = (*(count(items.kind == k) for k in (CHOSEN, REFERENCE, LEFT_OUT)), count(waiting))
    names = ("task", "selected", "reference", "left_out", "waiting")
    return [dict(zip(names, row, strict=True)) for row in zip(items.tasks, *columns, strict=True)]
