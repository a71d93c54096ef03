"""The selection without conversations: a CSV table, and an array of uids for DataComp's tools."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from presel_lightning.errors import UserError
from presel_lightning.export.selection.source import SelectedSample
from presel_lightning.export.selection.target import Target

FACTS = ("cluster", "score", "rank", "weight", "reason")
"""Columns of `selection.parquet`."""

COLUMNS = ("uid", "id", "image", "path", "task", "n_turns", *FACTS)
"""`image` is relative to the image root, `path` absolute; JSON lists where a record has several."""

HEX = re.compile("[0-9a-f]{32}")
UID = np.dtype("u8,u8")
"""Both halves of a uid's 32 hex digits, as integers."""


class Csv(Target):
    """`selection.csv`, one row per sample."""

    needs_instruction = needs_image = False

    def write(self, samples: Iterable[SelectedSample], folder: Path, final: Path) -> None:
        """Write header and rows."""
        with (folder / "selection.csv").open("w", encoding="utf-8", newline="") as handle:
            writer = csv.writer(handle, lineterminator="\n")
            writer.writerow(COLUMNS)
            for each in samples:
                sample, facts = each.sample, (each.facts[name] for name in FACTS)
                images, files = cell(sample.images), cell(list(map(str, each.files)))
                about = (each.uid, sample.id, images, files, sample.task)
                writer.writerow([*about, len(sample.turns), *facts])


def cell(paths: Sequence[str]) -> str:
    """The path of an image; of several their JSON list."""
    return paths[0] if len(paths) == 1 else json.dumps(list(paths), ensure_ascii=False)


class Npy(Target):
    """`uids.npy`, sorted: the subset file of DataComp's resharder.

    Where a sample has a weight other than 1, `weights.npy` holds the weights in the same order.
    """

    needs_instruction = needs_image = False

    def write(self, samples: Iterable[SelectedSample], folder: Path, final: Path) -> None:
        """Write the arrays, (n,) of two unsigned 64-bit numbers each and (n,) of float64."""
        pairs, weights, weighted = [], [], False
        for each in samples:
            uid, weighted = each.uid, each.weighted
            if not HEX.fullmatch(uid):
                raise UserError(
                    f"--uids own: the uid {uid!r:.60} of a record is not 32 hex digits, which an "
                    "array of DataComp holds; leave the option out"
                )
            pairs.append((int(uid[:16], 16), int(uid[16:], 16)))
            weights.append(each.weight)
        uids = np.array(pairs, dtype=UID)
        order = np.argsort(uids, kind="stable")
        np.save(folder / "uids.npy", uids[order])
        if weighted:
            np.save(folder / "weights.npy", np.array(weights)[order])
