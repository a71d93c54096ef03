"""Samples of a folder of shards that a set of uids lists, without writing new shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import fsspec
import numpy as np

from presel_lightning.errors import UserError
from presel_lightning.filters.faults import Faults, Listed
from presel_lightning.filters.uid_files import open_uids
from presel_lightning.filters.uids import UID, are_sorted, multiplicity, order_of, uid_of_hex
from presel_lightning.run.executors import complete
from presel_lightning.run.files import make_folder, user_cache
from presel_lightning.run.fingerprint import fingerprint
from presel_lightning.run.units import Stage, state_of
from presel_lightning.shards.rows import ROW, shard_rows, shards_in
from presel_lightning.shards.samples import shard_state


def read_uids(path: Path) -> np.ndarray:
    """Read a set of uids, sorted; a uid may be there several times.

    Args:
        path: `.npy` of DataComp's `u8,u8`, or a text with 32 hexadecimal letters a line.

    Raises:
        UserError: it holds something else.
    """
    if path.suffix == ".npy":
        uids = open_uids(path, "data.uids")
    else:
        try:
            lines = path.read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"data.uids {path}: {error}; give .npy or a uid a line") from error
        pairs = [uid_of_hex(line) for line in lines]
        if None in pairs:
            wrong = lines[pairs.index(None)]
            raise UserError(f"data.uids {path}: {wrong!r:.60} is no uid; a uid is 32 hex digits")
        uids = np.array(pairs, UID)
    return uids if are_sorted(uids) else uids[order_of(uids)]


@dataclass(frozen=True)
class RowsStage(Stage):
    """Rows of each shard that are in a set of uids, or all of them.

    Args:
        folder: of the manifests and rows.
        key: what else defines the result.
        paths: of the shards.
        uids: file of the uids; None for all samples.
        faults: `skip` lists shards and samples that cannot be read, `stop` stops there.
    """

    paths: tuple[Path, ...]
    uids: Path | None
    faults: Faults = "skip"

    def defined_by(self, number: int) -> object:
        """The shard."""
        return [str(self.paths[number]), shard_state(self.paths[number])]

    def __call__(self, number: int) -> None:
        """Find the rows of a shard."""
        listed = Listed(self.faults)
        rows = shard_rows(self.paths[number], listed)
        if self.uids is not None:
            rows = rows[multiplicity(read_uids(self.uids), rows["uid"]) > 0]
        self.save(number, "rows", rows)
        self.finish(number, {"samples": len(rows), "faults": listed.found})


@dataclass(frozen=True)
class Subset:
    """Samples of some shards.

    Attributes:
        paths: shards.
        shard: (N,) number of the shard of each sample.
        rows: (N,) of dtype `ROW`.
        repeated: samples that were left out as an earlier one has the same uid.
        faults: shard, problem and detail of what could not be read.
    """

    paths: tuple[Path, ...]
    shard: np.ndarray
    rows: np.ndarray
    repeated: int
    faults: list[list[str]]

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.rows)


def stage_of(
    folders: Sequence[Path], uids: Path | None, cache: Path | None, faults: Faults = "skip"
) -> RowsStage:
    """Describe the search for the samples of a set of uids.

    Args:
        folders: of the shards, at any depth.
        uids: see `read_uids`.
        cache: folder for what is found; one in the user's cache by default.
        faults: see `RowsStage`.

    Raises:
        UserError: there are no shards.
    """
    paths = tuple(path.absolute() for folder in folders for path in shards_in(folder))
    if not paths:
        raise UserError(f"data.shards {', '.join(map(str, folders))}: no .tar there or below")
    state = None if uids is None else state_of(fsspec.filesystem("file"), str(uids))
    key = fingerprint({"rows": 1, "uids": state})
    return RowsStage((cache or user_cache() / "shards") / key, key, paths, uids, faults)


def find(stage: RowsStage, workers: int = 1) -> Subset:
    """Find the samples; of a uid that is in several, the first in the order of the pool.

    A uid that is m times in the set gives m samples. What was found of a shard before is used.

    Args:
        stage: of `stage_of`.
        workers: processes.
    """
    make_folder(stage.folder)
    numbers = range(len(stage.paths))
    complete(stage, list(numbers), "local", workers, "shards")
    found = [stage.mapped(number, "rows") for number in numbers]
    rows = np.concatenate([np.empty(0, ROW), *found])
    shard = np.repeat(np.arange(len(found)), [len(each) for each in found])
    _, first = np.unique(rows["uid"], return_index=True)
    first = np.sort(first)
    repeated = len(rows) - len(first)
    rows, shard = rows[first], shard[first]
    if stage.uids is not None:
        copies = multiplicity(read_uids(stage.uids), rows["uid"])
        rows, shard = np.repeat(rows, copies), np.repeat(shard, copies)
    faults = [fault for n in numbers for fault in stage.read(n)["faults"]]
    return Subset(stage.paths, shard, rows, repeated, faults)
