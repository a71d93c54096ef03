"""Parquet shards that hold images, for formats that `datasets` reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from presel_lightning.export.selection.pictures import content, name
from presel_lightning.export.selection.source import SelectedSample

Row = dict[str, Any]

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""An image as `datasets` stores it."""
GROUP_ROWS, GROUP_BYTES = 256, 1 << 25
"""Maximum rows and image bytes of a row group, the unit of reading and writing."""


def write_shards(rows: Iterable[Row], schema: pa.Schema, folder: Path, shard_bytes: int) -> None:
    """Write `data/train-00000.parquet` and so on, row group after row group.

    Args:
        rows: rows with a list `images`.
        schema: columns.
        folder: of the export.
        shard_bytes: image bytes after which the next shard starts.
    """
    (folder / "data").mkdir()
    stream = groups(rows)
    for number, first in enumerate(stream):
        path = folder / "data" / f"train-{number:05d}.parquet"
        with pq.ParquetWriter(path, schema, use_dictionary=False) as writer:
            size = write_group(writer, first, schema)
            while size < shard_bytes and (group := next(stream, None)):
                size += write_group(writer, group, schema)


def write_group(writer: pq.ParquetWriter, rows: list[Row], schema: pa.Schema) -> int:
    """Write a row group; return its image bytes."""
    writer.write_table(pa.Table.from_pylist(rows, schema))
    return bytes_of(rows)


def groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Yield the rows of each row group."""
    group: list[Row] = []
    held = 0
    for row in rows:
        group.append(row)
        held += bytes_of([row])
        if len(group) == GROUP_ROWS or held >= GROUP_BYTES:
            yield group
            group, held = [], 0
    if group:
        yield group


def bytes_of(rows: list[Row]) -> int:
    """Return the image bytes of some rows."""
    return sum(len(image["bytes"]) for row in rows for image in row["images"])


def images_of(selected: SelectedSample) -> list[Row]:
    """The images of a sample, each with the pixels that the run reads."""
    return [
        {"bytes": content(file, selected.pixels), "path": name(file, file.name)}
        for file in selected.files
    ]
