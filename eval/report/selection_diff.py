"""Comparison of two selections: a page, and its figures as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from presel_lightning.errors import UserError
from presel_lightning.eval.intervals.seeds import overlap
from presel_lightning.eval.report.gallery import by_score, find_root, thumbnails
from presel_lightning.eval.report.page import page
from presel_lightning.eval.report.samples import KINDS, LEFT_OUT, image_names, read_samples
from presel_lightning.eval.report.setup_diff import setup_differences
from presel_lightning.run.files import read_json, write_json, write_text

Json = dict[str, Any]

EACH = 8
IN_ALL = 400
"""Maximum examples of a task that only one run selects, and maximum on the page."""


def write_diff(one: Path, other: Path, place: Path | None = None) -> Path:
    """Compare two runs and write the page, and `.json` beside it.

    Args:
        one: run folder.
        other: run folder.
        place: path of the page; `ONE/report/diff-<name of OTHER>.html` by default.

    Returns:
        Path of the page.

    Raises:
        UserError: one of them has no selection.
    """
    place = place or one / "report" / f"diff-{other.resolve().name}.html"
    found = compare_selections(one, other)
    write_json(place.with_suffix(".json"), found)
    examples = [e for task in found["tasks"] for e in (*task["only_one"], *task["only_other"])]
    pictures: dict[str, str] = {}
    for run in (one, other):
        rest = (e["image"] for e in examples if e["image"] not in pictures)
        pictures |= thumbnails(find_root(run), rest)
    missing = sum(e["image"] not in pictures for e in examples)
    write_text(place, page("diff.html.j2", diff=found, pictures=pictures, missing=missing))
    return place


def compare_selections(one: Path, other: Path) -> Json:
    """Compute counts and examples, per task and in all, as JSON values.

    All training samples count: the reference split and the selection. `jaccard` is the number of
    shared samples over that of the samples in either.
    """
    sides = (_Side(one), _Side(other))
    tasks = sorted({*sides[0].selected, *sides[1].selected})
    each = min(EACH, max(1, IN_ALL // (2 * len(tasks))))
    rows = [_task(task, *sides, each) for task in tasks]
    uids = [e["uid"] for row in rows for e in (*row["only_one"], *row["only_other"])]
    images = {**image_names(other, uids), **image_names(one, uids)}
    for row in rows:
        for example in (*row["only_one"], *row["only_other"]):
            example["image"] = images.get(example["uid"])
    selected = [set().union(*side.selected.values()) for side in sides]
    return {
        "one": sides[0].about(),
        "other": sides[1].about(),
        "setup": setup_differences(one, other),
        "shared": len(selected[0] & selected[1]),
        "jaccard": overlap(*selected),
        "pool_shared": len(sides[0].row.keys() & sides[1].row.keys()),
        "tasks": rows,
    }


class _Side:
    """One of the two runs.

    Raises:
        UserError: it has no selection.
    """

    def __init__(self, run: Path) -> None:
        samples = read_samples(run)
        if samples is None:
            raise UserError(
                f"--diff {run}: no selection there; give a folder that `select` or `fit` wrote"
            )
        self.run, self.samples = run, samples
        uids = samples.names(np.arange(len(samples.uid)))
        self.row = {uid: row for row, uid in enumerate(uids)}
        self.selected: dict[str, set[str]] = {name: set() for name in samples.tasks}
        for row in np.flatnonzero(samples.kind != LEFT_OUT).tolist():
            self.selected[samples.tasks[samples.task[row]]].add(uids[row])

    def about(self) -> Json:
        """Return the run's name, selector, seed and counts."""
        path = self.run / "run.json"
        ledger = read_json(path) if path.is_file() else {}
        return {
            "name": self.run.resolve().name,
            "selector": ledger.get("selector"),
            "seed": ledger.get("seed"),
            "pool": len(self.row),
            "chosen": sum(map(len, self.selected.values())),
        }

    def score(self, uid: str) -> float | None:
        """Return the score of a sample; None where it has none, or is not in the pool."""
        row = self.row.get(uid)
        return None if row is None else self.samples.scores(np.array([row]))[0]


def _task(task: str, one: _Side, other: _Side, each: int) -> Json:
    mine, theirs = one.selected.get(task, set()), other.selected.get(task, set())
    return {
        "task": task,
        "one": len(mine),
        "other": len(theirs),
        "shared": len(mine & theirs),
        "jaccard": overlap(mine, theirs),
        "only_one": _examples(one, other, mine - theirs, each),
        "only_other": _examples(other, one, theirs - mine, each),
    }


def _examples(ours: _Side, theirs: _Side, uids: set[str], each: int) -> list[Json]:
    """Return the best samples of only one side, with their scores on the other side."""
    samples = ours.samples
    rows = by_score(samples, np.array([ours.row[uid] for uid in sorted(uids)], dtype=int))[:each]
    return [
        {
            "uid": uid,
            "kind": KINDS[samples.kind[row]],
            "score": score,
            "score_there": theirs.score(uid),
            "in_other_pool": uid in theirs.row,
        }
        for row, uid, score in zip(rows, samples.names(rows), samples.scores(rows), strict=True)
    ]
