"""Metadata of a pool: parquet files or annotations, and the scores beside them."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO, NamedTuple

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from presel_lightning.errors import UserError
from presel_lightning.filters.annotations import annotation_table, is_annotation_file
from presel_lightning.filters.faults import Fault
from presel_lightning.filters.rule import Names, Rows
from presel_lightning.filters.score_files import ScoreFile, read_arrays
from presel_lightning.filters.score_table import ScoreTable
from presel_lightning.filters.uids import UID, parse_uids

UID_NAMES = ("uid",)
BATCH = 1 << 17
"""Rows that are held at a time."""


@dataclass(frozen=True)
class Unit:
    """One metadata file, and the files of scores that belong to it alone."""

    path: str
    number: int
    beside: tuple[str, ...] = ()
    """`X_NAME.parquet` and `X_NAME.npz` beside `X.parquet`: joined by their uids."""
    arrays: str | None = None
    """`X.npz`: a row for each of the metadata's, in their order."""

    @property
    def files(self) -> tuple[str, ...]:
        """All of them."""
        return (self.path, *self.beside, *filter(None, [self.arrays]))


@dataclass(frozen=True)
class Metadata:
    """The metadata files of a pool.

    Args:
        url: folder or file, or any URL that fsspec knows.
        scores: tables of scores for the whole pool, joined by uid.
    """

    url: str
    scores: tuple[ScoreTable, ...] = ()

    @cached_property
    def files(self) -> fsspec.AbstractFileSystem:
        """The file system that they lie on."""
        return file_system(self.url)[0]

    def units(self) -> list[Unit]:
        """Its metadata files in the order of their names.

        Raises:
            UserError: there is none.
        """
        try:
            files, root = file_system(self.url)
            found = [root] if files.isfile(root) else sorted(files.find(root))
        except (OSError, ValueError, ImportError) as error:
            raise UserError(f"--metadata {self.url}: cannot be listed ({error})") from error
        units = list(_units(found))
        if not units:
            raise UserError(
                f"--metadata {self.url}: no .parquet and no annotations there; give a folder of metadata files"
            )
        return units

    def batches(
        self, unit: Unit, wanted: Sequence[Names], *, needs_uids: bool = True
    ) -> Iterator[Rows]:
        """Stream the rows of a file.

        Args:
            unit: the file.
            wanted: columns, each with its names; they come under the first of these.
            needs_uids: without, uids are only read where scores are joined by them.

        Raises:
            Fault: the file, or one beside it, cannot be read or lacks a column.
        """
        wanted = list(dict.fromkeys(wanted))
        with opened(self.files, unit.path) as handle:
            table = _reader(handle, unit.path)
            own = set(table.names)
            if "uid" not in own:
                raise Fault(unit.path, "missing_column", "it has no column uid")
            names = {each[0]: next((n for n in each if n in own), None) for each in wanted}
            rest = [each for each in wanted if names[each[0]] is None]
            others = _Others(self, unit, rest, table.rows)
            columns = list(dict.fromkeys(name for name in names.values() if name))
            if needs_uids or others.joined or not columns:
                columns.insert(0, "uid")
            start = 0
            for batch in table.batches(columns):
                yield _rows(unit, batch, names, others, start)
                start += len(batch)


class _Reader(NamedTuple):
    """A metadata file that is open."""

    names: list[str]
    rows: int
    batches: Callable[[list[str]], Iterator[pa.RecordBatch]]


def _reader(handle: BinaryIO, path: str) -> _Reader:
    if path.endswith(".json"):
        whole = annotation_table(handle.read(), path)
        return _Reader(
            whole.column_names,
            len(whole),
            lambda names: iter(whole.select(names).to_batches(BATCH)),
        )
    table = pq.ParquetFile(handle)
    return _Reader(
        table.schema_arrow.names,
        table.metadata.num_rows,
        lambda names: table.iter_batches(BATCH, columns=names, use_threads=False),
    )


@contextmanager
def opened(files: fsspec.AbstractFileSystem, path: str) -> Iterator[BinaryIO]:
    """Open a file; what goes wrong while it is read is a fault of it.

    Raises:
        Fault: it cannot be read.
    """
    try:
        local = files.protocol in ("file", ("file", "local"))
        with pa.memory_map(path) if local else files.open(path, "rb") as handle:
            yield handle
    except (OSError, ValueError, EOFError, pa.ArrowException) as error:
        if isinstance(error, UserError):
            raise
        raise Fault(path, "unreadable", " ".join(str(error).split())[:300]) from error


def file_system(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """File system and path of a URL."""
    found: tuple[fsspec.AbstractFileSystem, str] = fsspec.core.url_to_fs(url)
    return found


def _units(paths: Sequence[str]) -> Iterator[Unit]:
    stems = {p.removesuffix(".parquet") for p in paths if p.endswith(".parquet")}
    beside = defaultdict(list)
    for path in paths:
        stem, ending = posixpath.splitext(path)
        if ending in (".parquet", ".npz") and (owner := _owner(stem, stems)):
            beside[owner].append(path)
    apart = {path for some in beside.values() for path in some}
    mains = {f"{stem}.parquet" for stem in stems} - apart
    # annotations stand for a shard that has no metadata file
    mains |= {p for p in paths if is_annotation_file(p) and posixpath.splitext(p)[0] not in stems}
    known = set(paths)
    for number, path in enumerate(sorted(mains)):
        stem = posixpath.splitext(path)[0]
        arrays = f"{stem}.npz" if f"{stem}.npz" in known else None
        yield Unit(path, number, tuple(beside[stem]), arrays)


def _owner(stem: str, stems: set[str]) -> str | None:
    """The metadata file that a file of scores stands beside: `X` of `X_NAME`."""
    folder, name = posixpath.split(stem)
    ends = [i for i, letter in enumerate(name) if letter == "_"]
    return next((s for end in ends if (s := posixpath.join(folder, name[:end])) in stems), None)


class _Others:
    """Columns that do not stand in the metadata file itself."""

    def __init__(self, metadata: Metadata, unit: Unit, wanted: list[Names], rows: int) -> None:
        self.arrays: dict[str, pa.Array] = {}
        self.joined: dict[str, tuple[str, Any]] = {}
        if not wanted:
            return
        if unit.arrays:
            self.arrays = read_arrays(metadata.files, unit.arrays, wanted, rows)
        tables = [ScoreFile(metadata.files, path) for path in unit.beside]
        for names in wanted:
            if names[0] in self.arrays:
                continue
            sources: list[ScoreFile | ScoreTable] = [*tables, *metadata.scores]
            pairs = ((table, name) for table in sources for name in names)
            found = next(((t, name) for t, name in pairs if name in t.names), None)
            if found is None:
                raise Fault(unit.path, "missing_column", f"no column {' or '.join(names)}")
            self.joined[names[0]] = (found[1], found[0])

    def columns(self, texts: pa.Array, start: int) -> Iterator[tuple[str, pa.Array]]:
        """Their rows for some uids."""
        for name, array in self.arrays.items():
            yield name, array[start : start + len(texts)]
        uids = parse_uids(texts)[0] if self.joined else np.empty(0, UID)
        for name, (column, table) in self.joined.items():
            yield name, table.of(uids, column)


def _rows(
    unit: Unit, batch: pa.RecordBatch, names: dict[str, str | None], others: _Others, start: int
) -> Rows:
    if "uid" in batch.schema.names:
        texts = batch.column("uid")
    else:
        texts = pa.nulls(len(batch), pa.string())
    if not pa.types.is_string(texts.type):
        try:
            texts = texts.cast(pa.string())
        except (pa.ArrowException, ValueError) as error:
            raise Fault(unit.path, "malformed_uid", f"uid is {texts.type}") from error
    columns = {name: batch.column(own) for name, own in names.items() if own}
    columns |= dict(others.columns(texts, start))
    return Rows(texts, pa.table(columns), unit.number, start)
