"""Scores of a whole pool from files in any order: sorted by uid once, on disk, then mapped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from presel_lightning.errors import UserError
from presel_lightning.filters.columns import WrongType, plain
from presel_lightning.filters.faults import Fault, Listed
from presel_lightning.filters.mlm_filter import read_scores, stripped
from presel_lightning.filters.score_files import ScoreFile, matched, uids_of
from presel_lightning.filters.uids import UID
from presel_lightning.run.files import replacing_folder

PARTS = 256
"""Parts of the pool, by the first byte of the uid, that are sorted one at a time."""
BATCH = 1 << 16


@dataclass(frozen=True)
class ScoreTable:
    """A sorted table: `uid.npy`, and an array for each score, in a folder."""

    folder: str
    names: tuple[str, ...]

    def of(self, uids: np.ndarray, name: str) -> pa.Array:
        """Scores of some uids; null where there is none."""
        table = _mapped(f"{self.folder}/uid.npy")
        scores = _mapped(f"{self.folder}/{file_of(name)}")
        place = matched(table, np.arange(len(table)), uids)
        rows = place.fill_null(0).to_numpy(zero_copy_only=False)
        known = place.is_valid().to_numpy(zero_copy_only=False)
        values = scores[rows] if len(table) else np.zeros(len(uids))
        return pa.array(values, mask=~known | np.isnan(values))


def file_of(name: str) -> str:
    """The file of a column, whatever its name is."""
    return f"{quote(name, safe='')}_.npy"


@cache
def _mapped(path: str) -> np.ndarray:
    return np.asarray(np.load(path, mmap_mode="r"))


def build(url: str, names: tuple[str, ...], folder: Path, listed: Listed) -> ScoreTable:
    """Sort the files of a folder or URL into a table; of a uid that is twice, the first counts.

    Args:
        url: `.parquet` or `.npz`, or a folder of them, with `uid` and one of the columns.
        names: columns that are wanted.
        folder: of the table.
        listed: where faults go.

    Raises:
        UserError: there are no files of scores.
    """
    files: fsspec.AbstractFileSystem
    files, root = fsspec.core.url_to_fs(url)
    found = [root] if files.isfile(root) else sorted(files.find(root))
    found = [path for path in found if path.endswith((".parquet", ".npz"))]
    if not found:
        raise UserError(f"--scores {url}: no .parquet or .npz there")
    known = set()
    for path in found:
        try:
            known |= {name for name in ScoreFile(files, path).names if name in names}
        except Fault as fault:
            listed.add(fault)
    kept = tuple(sorted(known))
    if not (folder / "uid.npy").exists():
        with replacing_folder(folder) as part:
            _sort(files, found, kept, part, listed)
    return ScoreTable(str(folder), kept)


def _sort(
    files: fsspec.AbstractFileSystem,
    paths: list[str],
    names: tuple[str, ...],
    folder: Path,
    listed: Listed,
) -> None:
    row = np.dtype([("uid", UID), ("scores", "<f8", (len(names),))])
    parts = [(folder / f"{number:02x}").open("ab") for number in range(PARTS)]
    for path in paths:
        try:
            for uids, scores in _batches(files, path, names, listed):
                rows = np.empty(len(uids), row)
                rows["uid"], rows["scores"] = uids, scores
                owner = (uids["f0"] >> np.uint64(56)).astype(np.int64)
                order = np.argsort(owner, kind="stable")
                bounds = np.searchsorted(owner[order], np.arange(PARTS + 1))
                for number in np.unique(owner).tolist():
                    some = order[bounds[number] : bounds[number + 1]]
                    parts[number].write(rows[some].tobytes())
        except Fault as fault:
            listed.add(fault)
    for part in parts:
        part.close()
    _join(folder, row, names)


def _join(folder: Path, row: np.dtype, names: tuple[str, ...]) -> None:
    """Sort the parts one after the other into arrays as long as all of them."""
    paths = [folder / f"{number:02x}" for number in range(PARTS)]
    total = sum(path.stat().st_size for path in paths) // row.itemsize
    columns = [
        np.lib.format.open_memmap(folder / name, "w+", dtype, (total,))
        for name, dtype in [("uid.npy", UID), *((file_of(n), np.dtype("<f8")) for n in names)]
    ]
    start = 0
    for path in paths:
        rows = np.fromfile(path, row)
        order = np.lexsort((rows["uid"]["f1"], rows["uid"]["f0"]))  # stable
        stop = start + len(rows)
        columns[0][start:stop] = rows["uid"][order]
        for number, column in enumerate(columns[1:]):
            column[start:stop] = rows["scores"][order, number]
        start = stop
        path.unlink()
    for column in columns:
        column.flush()


def _batches(
    files: fsspec.AbstractFileSystem, path: str, names: tuple[str, ...], listed: Listed
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Uids and scores (N, names) of a file, NaN where it has none."""
    if path.endswith(".npz"):
        table = ScoreFile(files, path)
        whole = {name: table.column(name) for name in ("uid", *names) if name in table.names}
        batches: Iterator[pa.RecordBatch] = iter([pa.RecordBatch.from_pydict(whole)])
        yield from (_scores(batch, path, names, listed) for batch in batches)
        return
    try:
        with files.open(path) as handle:
            reader = pq.ParquetFile(handle)
            own = [name for name in ("uid", *names) if name in reader.schema_arrow.names]
            for batch in reader.iter_batches(BATCH, columns=own, use_threads=False):
                yield _scores(batch, path, names, listed)
    except (OSError, pa.ArrowException) as error:
        raise Fault(path, "unreadable", " ".join(str(error).split())[:300]) from error


def _scores(
    batch: pa.RecordBatch, path: str, names: tuple[str, ...], listed: Listed
) -> tuple[np.ndarray, np.ndarray]:
    if "uid" not in batch.schema.names:
        raise Fault(path, "missing_column", "it has no column uid")
    uids, valid = uids_of(batch.column("uid"), path)
    for number in np.flatnonzero(~valid).tolist():
        value = batch.column("uid")[number].as_py()
        listed.add(Fault(path, "malformed_uid", f"{value!r}"))
    scores = np.full((len(uids), len(names)), np.nan)
    for number, name in enumerate(names):
        if name in batch.schema.names:
            try:
                column = plain(batch.column(name), name)
                scores[:, number] = read_scores(column, stripped, (name,))
            except WrongType as error:
                raise Fault(path, "wrong_type", str(error)) from error
    return uids[valid], scores[valid]
