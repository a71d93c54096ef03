"""TRL: a Hugging Face dataset in parquet that holds its images and typed messages.

Source: TRL's documentation, "Dataset formats and types"; the features of `datasets`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from presel_lightning.export.selection.parquet_shards import IMAGE, images_of, write_shards
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


class Trl(ShardTarget):
    """`data/train-00000.parquet` and so on, for `datasets.load_dataset`."""

    def write(self, samples: Iterable[SelectedSample], folder: Path, final: Path) -> None:
        """Write row group after row group."""
        write_shards(map(row_of, samples), SCHEMA, folder, self.shard_bytes)


def row_of(selected: SelectedSample) -> dict[str, Any]:
    """Build one row."""
    sample = selected.sample
    place = None if any(turn.images_at for turn in sample.turns) else image_place(sample.turns)
    return {
        "images": images_of(selected),
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
