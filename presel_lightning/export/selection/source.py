"""Source of a selection export: the selected samples of a run, streamed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from presel_lightning.data.annotations import read_records
from presel_lightning.data.conversation import images_of, parse
from presel_lightning.data.image_memory import Found
from presel_lightning.data.images import check_image
from presel_lightning.data.pixels import Pixels
from presel_lightning.data.resolver import OutsideRoot, Resolver
from presel_lightning.errors import UserError
from presel_lightning.export.selection.pictures import is_plain
from presel_lightning.records import Sample, own_fields

NO_LIMIT = 1 << 62
"""Pixels; the run has applied its own limit."""


@dataclass(frozen=True, slots=True)
class SelectedSample:
    """One sample of a selection, with its image files checked.

    Attributes:
        sample: its record is that of the annotation file, with our fields under `presel`.
        uid: name of the sample in the export.
        files: image files, absolute, with links resolved; one, unless the record has several images.
        inside: path of each image below the image root, without `..`.
        facts: cluster, score, rank, weight and reason of `selection.parquet`.
        weighted: whether any sample of the selection has a weight other than 1.
        pixels: how the run reads images.
    """

    sample: Sample
    files: tuple[Path, ...]
    inside: tuple[str, ...]
    facts: dict[str, Any]
    weighted: bool = False
    pixels: Pixels = "as_shown"
    uid: str = ""

    @property
    def weight(self) -> float:
        """Training weight of the sample."""
        return float(self.facts["weight"])


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A selected sample that a format cannot hold, with the reason."""

    uid: str
    id: str
    image: str
    task: str
    problem: str
    detail: str


@dataclass
class SelectedSamples:
    """Reference and selected samples of a run, streamed in the order of their uids.

    Attributes:
        run: folder that `fit` or `select` wrote.
        resolver: finds the images.
        pixels: how the run reads images.
        needs_instruction: leave out samples without an instruction.
        needs_image: leave out samples without a readable image.
        placeholders: leave out samples with one of these in their text.
        own_uids: name samples by the `uid` of their records, where these bring one.
        left_out: samples left out; filled during iteration.
        unlike: number of images that other tools read otherwise than the run; counted during
            iteration.
    """

    run: Path
    resolver: Resolver
    pixels: Pixels = "as_shown"
    needs_instruction: bool = True
    needs_image: bool = True
    placeholders: tuple[str, ...] = ()
    own_uids: bool = False
    left_out: list[LeftOut] = field(default_factory=list)
    unlike: int = 0

    def __iter__(self) -> Iterator[SelectedSample]:
        """Yield every selected sample that has what is needed."""
        facts = {row["uid"]: row for row in selection_table(self.run).to_pylist()}
        weighted = any(row["weight"] != 1 for row in facts.values())
        self.left_out.clear()
        self.unlike = 0
        for record in read_records(self.run / "selection" / "selected.json"):
            ours = {**record, **own_fields(record)}  # an earlier version wrote them beside
            uid, images, task = ours["uid"], images_of(record), ours["task"]
            image = images[0]
            sample = Sample(uid, str(record.get("id", "")), image, task, parse(record), record)
            try:
                files = tuple(map(self.resolver, images))
            except OutsideRoot as error:
                fault: Found | None = ("outside_root", str(error))
            else:
                fault = self.fault_of(sample, files)
            if fault is None:
                self.unlike += sum(self.needs_image and not is_plain(file) for file in files)
                inside = tuple(map(os.path.normpath, images))
                name = str(record.get("uid", uid)) if self.own_uids else uid
                yield SelectedSample(
                    sample, files, inside, facts[uid], weighted, self.pixels, uid=name
                )
            else:
                self.left_out.append(LeftOut(uid, sample.id, image, sample.task, *fault))

    def fault_of(self, sample: Sample, files: Sequence[Path]) -> Found | None:
        """Return why a sample cannot be exported, (problem, detail); None where it can."""
        if self.needs_instruction and not sample.has_instruction:
            return "no_instruction", "its instruction has not been written yet"
        for turn in sample.turns:
            for mark in self.placeholders:
                if mark in turn.question or mark in turn.answer:
                    return (
                        "placeholder_in_text",
                        f"{mark} in its text would count as a place of its own",
                    )
        if self.needs_image:
            checked = (check_image(f, max_pixels=NO_LIMIT, verify="header") for f in files)
            return next((fault for fault in checked if fault), None)
        return None


def selection_table(run: Path) -> pa.Table:
    """Read the selected rows of `selection.parquet`, sorted by uid.

    Raises:
        UserError: the run has no selection yet.
    """
    path = run / "selection" / "selection.parquet"
    if not path.is_file():
        raise UserError(
            f"--run {run}: no selection/selection.parquet there; give a folder in which `select` or "
            "`fit` has completed the selection"
        )
    table = pq.read_table(path, filters=[("selected", "==", True)]).sort_by("uid")
    if "weight" in table.column_names:
        return table
    return table.append_column("weight", pa.array(np.ones(len(table))))  # of an earlier version
