"""TRL: a Hugging Face dataset in parquet that holds its images and typed messages.

Source: TRL's documentation, "Dataset formats and types"; the features of `datasets`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from presel_lightning.export.selection.pictures import content, name
from presel_lightning.export.selection.source import SelectedSample
from presel_lightning.export.selection.target import ShardTarget
from presel_lightning.records import Turn, image_place, pieces_of, system_prompt

TEXT = {"dtype": "string", "_type": "Value"}
FEATURES = {
    # every version of `datasets` accepts plain lists; 4 and later write them as `List`
    "images": [{"_type": "Image"}],
    "messages": [{"role": TEXT, "content": [{"type": TEXT, "text": TEXT}]}],
    "uid": TEXT,
    "task": TEXT,
    "weight": {"dtype": "float64", "_type": "Value"},
}
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
PART = pa.struct([("type", pa.string()), ("text", pa.string())])
MESSAGE = pa.struct([("role", pa.string()), ("content", pa.list_(PART))])
SCHEMA = pa.schema(
    [
        ("images", pa.list_(IMAGE)),
        ("messages", pa.list_(MESSAGE)),
        ("uid", pa.string()),
        ("task", pa.string()),
        ("weight", pa.float64()),
    ],
    metadata={"huggingface": json.dumps({"info": {"features": FEATURES}})},
)
SHOWN = {"type": "image", "text": None}
"""Part of a message that shows the next image."""
GROUP_ROWS, GROUP_BYTES = 256, 1 << 25
"""Maximum rows and image bytes of a row group, the unit of reading and writing."""


class Trl(ShardTarget):
    """`data/train-00000.parquet` and so on, for `datasets.load_dataset`."""

    def write(self, samples: Iterable[SelectedSample], folder: Path, final: Path) -> None:
        """Write row group after row group."""
        (folder / "data").mkdir()
        stream = groups(samples)
        for number, first in enumerate(stream):
            path = folder / "data" / f"train-{number:05d}.parquet"
            with pq.ParquetWriter(path, SCHEMA, use_dictionary=False) as writer:
                size = write_group(writer, first)
                while size < self.shard_bytes and (rows := next(stream, None)):
                    size += write_group(writer, rows)


def write_group(writer: pq.ParquetWriter, rows: list[dict[str, Any]]) -> int:
    """Write a row group; return its image bytes."""
    writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
    return bytes_of(rows)


def groups(samples: Iterable[SelectedSample]) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each row group."""
    rows: list[dict[str, Any]] = []
    held = 0
    for each in samples:
        rows.append(row_of(each))
        held += bytes_of(rows[-1:])
        if len(rows) == GROUP_ROWS or held >= GROUP_BYTES:
            yield rows
            rows, held = [], 0
    if rows:
        yield rows


def row_of(selected: SelectedSample) -> dict[str, Any]:
    """Build one row."""
    sample = selected.sample
    place = None if any(turn.images_at for turn in sample.turns) else image_place(sample.turns)
    return {
        "images": [
            {"bytes": content(file, selected.pixels), "path": name(file, file.name)}
            for file in selected.files
        ],
        "messages": [
            *system_message(system_prompt(sample.turns)),
            *(
                message
                for number, turn in enumerate(sample.turns)
                for message in messages(turn, image=number == place)
            ),
        ],
        "uid": selected.uid,
        "task": sample.task,
        "weight": selected.weight,
    }


def system_message(text: str) -> list[dict[str, Any]]:
    """The message of a system prompt; none where there is none."""
    return [{"role": "system", "content": [{"type": "text", "text": text}]}] if text else []


def messages(turn: Turn, *, image: bool) -> Iterator[dict[str, Any]]:
    """Yield a question and its answer; the image precedes its question, several stand in it."""
    first, *rest = pieces_of(turn.question, turn.images_at)
    asked: list[dict[str, Any]] = [SHOWN] if image else []
    if first or not (image or rest):
        asked.append({"type": "text", "text": first})
    for piece in rest:
        asked += [SHOWN, {"type": "text", "text": piece}] if piece else [SHOWN]
    yield {"role": "user", "content": asked}
    yield {"role": "assistant", "content": [{"type": "text", "text": turn.answer}]}


def bytes_of(rows: list[dict[str, Any]]) -> int:
    """Return the image bytes of some rows."""
    return sum(len(image["bytes"]) for row in rows for image in row["images"])
