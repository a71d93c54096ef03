"""A Hugging Face data set of images, with the instructions that there are.

Source: the documentation of `datasets`, features `Image` and `Value`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from presel_lightning.export.selection.parquet_shards import IMAGE, images_of, write_shards
from presel_lightning.export.selection.source import SelectedSample
from presel_lightning.export.selection.target import ShardTarget
from presel_lightning.records import system_prompt

TEXT = {"dtype": "string", "_type": "Value"}
FEATURES = {
    "images": [{"_type": "Image"}],
    "task": TEXT,
    "system": TEXT,
    "turns": [{"question": TEXT, "answer": TEXT}],
    "id": TEXT,
    "uid": TEXT,
    "weight": {"dtype": "float64", "_type": "Value"},
}
TURN = pa.struct([("question", pa.string()), ("answer", pa.string())])
SCHEMA = pa.schema(
    [
        ("images", pa.list_(IMAGE)),
        ("task", pa.string()),
        ("system", pa.string()),
        ("turns", pa.list_(TURN)),
        ("id", pa.string()),
        ("uid", pa.string()),
        ("weight", pa.float64()),
    ],
    metadata={"huggingface": json.dumps({"info": {"features": FEATURES}})},
)


class HfDataset(ShardTarget):
    """`data/train-00000.parquet` and so on, for `datasets.load_dataset`.

    `turns` is empty where an image has no instruction yet.
    """

    needs_instruction = False

    def write(self, samples: Iterable[SelectedSample], folder: Path, final: Path) -> None:
        """Write row group after row group."""
        write_shards(map(row_of, samples), SCHEMA, folder, self.shard_bytes)


def row_of(selected: SelectedSample) -> dict[str, Any]:
    """Build one row."""
    sample = selected.sample
    return {
        "images": images_of(selected),
        "task": sample.task,
        "system": system_prompt(sample.turns) or None,
        "turns": [{"question": turn.question, "answer": turn.answer} for turn in sample.turns],
        "id": sample.id,
        "uid": selected.uid,
        "weight": selected.weight,
    }
