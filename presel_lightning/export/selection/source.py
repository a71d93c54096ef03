"""What the export of a selection starts from: the chosen samples of a run, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from presel_lightning.data.annotations import read_records
from presel_lightning.data.conversation import parse
from presel_lightning.data.image_memory import Found
from presel_lightning.data.images import OutsideRoot, Resolver, check_image
from presel_lightning.errors import UserError
from presel_lightning.records import Sample

NO_LIMIT = 1 << 62
"""Pixels: how large an image may be was the run's affair."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """One sample of a selection, with its image looked at.

    Attributes:
        sample: its record is the annotation file's, with `uid` and `task`.
        file: of the image, absolute and without links.
        inside: path of `file` below the image root.
        facts: cluster, score, rank and reason, as `selection.parquet` has them.
    """

    sample: Sample
    file: Path
    inside: str
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A chosen sample that a format cannot hold, and why."""

    uid: str
    id: str
    image: str
    task: str
    problem: str
    detail: str


@dataclass
class ChosenSamples:
    """Reference and selected samples of a run, streamed in the order of their uids.

    Attributes:
        run: folder that `fit` or `select` wrote.
        image_root: folder that image paths are relative to.
        needs_instruction: leave out what has none yet.
        needs_image: leave out what has no image that can be opened.
        left_out: filled while the samples are iterated over.
    """

    run: Path
    image_root: Path
    needs_instruction: bool = True
    needs_image: bool = True
    left_out: list[LeftOut] = field(default_factory=list)

    def __iter__(self) -> Iterator[Chosen]:
        """Every chosen sample that has what is needed."""
        facts = {row["uid"]: row for row in selection_table(self.run).to_pylist()}
        resolver = Resolver(self.image_root)
        self.left_out.clear()
        for record in read_records(self.run / "selection" / "selected.json"):
            uid, image = record["uid"], record["image"]
            sample = Sample(
                uid, str(record.get("id", "")), image, record["task"], parse(record), record
            )
            try:
                file = resolver(image)
            except OutsideRoot as error:
                fault: Found | None = ("outside_root", str(error))
            else:
                fault = self.look(sample, file)
            if fault is None:
                inside = file.relative_to(resolver.root).as_posix()
                yield Chosen(sample, file, inside, facts[uid])
            else:
                self.left_out.append(LeftOut(uid, sample.id, image, sample.task, *fault))

    def look(self, sample: Sample, file: Path) -> Found | None:
        """What speaks against exporting a sample: (problem, detail)."""
        if self.needs_instruction and not sample.has_instruction:
            return "no_instruction", "its instruction has not been written yet"
        if self.needs_image:
            return check_image(file, max_pixels=NO_LIMIT, verify="header")
        return None


def selection_table(run: Path) -> pa.Table:
    """The chosen rows of `selection.parquet`, in the order of their uids.

    Raises:
        UserError: the run has chosen nothing yet.
    """
    path = run / "selection" / "selection.parquet"
    if not path.is_file():
        raise UserError(
            f"--run {run}: no selection/selection.parquet there; give a folder that `select` or "
            "`fit` has come to the selection in"
        )
    return pq.read_table(path, filters=[("selected", "==", True)]).sort_by("uid")
