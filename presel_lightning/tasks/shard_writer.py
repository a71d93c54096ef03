"""Write what a prediction says of the samples of shards: a table of scores for each shard."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter

from presel_lightning.filters.faults import Listed
from presel_lightning.filters.uids import as_hex
from presel_lightning.loading.shard_blocks import Shard, ShardPass, n_blocks
from presel_lightning.run.files import make_folder, read_json, replacing, write_json
from presel_lightning.shards.rows import shard_rows

Arrays = dict[str, np.ndarray]
FAULT = "fault"
"""Column that says why an image could not be used; null where it could."""


class ShardWriter(BasePredictionWriter):
    """Keeps each block as soon as it is there, and joins the blocks of a shard to a table.

    A killed pass loses its current block. The manifest of a shard is written last, and names what
    the table was made from.

    Args:
        data: the shards.
        tables: where the table of each shard goes, without its ending.
        key: what the scores depend on, besides the shard.
        columns: arrays of a shard to columns of scores.
        kept: arrays of a prediction that these are made of; all by default.
    """

    def __init__(
        self,
        data: ShardPass,
        tables: dict[Shard, Path],
        key: dict[Shard, str],
        columns: Callable[[Arrays], dict[str, pa.Array]],
        kept: Sequence[str] | None = None,
    ) -> None:
        super().__init__(write_interval="batch")
        self.data, self.tables, self.key, self.columns = data, tables, key, columns
        self.kept = kept

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the folders of the blocks."""
        for shard in self.data.own():
            make_folder(shard.folder)

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Any,  # noqa: ANN401 - Lightning's signature
        batch_indices: Sequence[int] | None,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write one block under its final name at once."""
        kept = prediction if self.kept is None else self.kept
        arrays: dict[str, Any] = {name: as_array(prediction[name]) for name in kept}
        arrays[FAULT] = np.array(batch["faults"], dtype=np.str_)
        shard = self.data.own()[batch["shard"]]
        with replacing(shard.block(batch["block"])) as temporary, temporary.open("wb") as handle:
            np.savez(handle, **arrays)
        if all(shard.block(number).exists() for number in range(batch["n_blocks"])):
            self.join(shard)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Join the blocks of shards that an earlier start has computed to the last, and of empty ones."""
        for shard in self.data.own():
            if not is_done(self.tables[shard], self.key[shard]):
                self.join(shard)

    def join(self, shard: Shard) -> None:
        """Write the table of a shard, then its manifest."""
        listed = Listed("skip")
        rows = shard_rows(shard.path, listed)
        parts = [read_block(shard.block(k)) for k in range(n_blocks(rows, self.data.size))]
        names = list(parts[0]) if parts else []
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in names}
        table = {"uid": pa.array(as_hex(rows["uid"]), pa.string())}
        scored = len(rows)
        if parts:
            faults = arrays.pop(FAULT)
            usable = faults == ""
            scored = int(usable.sum())
            for name, column in self.columns(arrays).items():
                table[name] = pa.compute.if_else(pa.array(usable), column, None)
            table[FAULT] = pa.array([fault or None for fault in faults.tolist()], pa.string())
        place = self.tables[shard]
        with replacing(place.with_suffix(".parquet")) as path:
            pq.write_table(pa.table(table), path)
        counts = {"key": self.key[shard], "samples": len(rows), "scored": scored}
        write_json(place.with_suffix(".json"), {**counts, "faults": listed.found})
        shutil.rmtree(shard.folder)


def read_block(path: Path) -> Arrays:
    """Arrays of a block."""
    with np.load(path) as part:
        return dict(part)


def as_array(value: Any) -> np.ndarray:  # noqa: ANN401 - a tensor, or a list of texts
    """Values of a block, (B, ...)."""
    return np.array(value, dtype=np.str_) if isinstance(value, list) else value.cpu().numpy()


def is_done(place: Path, key: str) -> bool:
    """Whether the table of a shard is there, made from the same.

    Args:
        place: of the table, without its ending.
        key: what its scores depend on, the shard included.
    """
    manifest = place.with_suffix(".json")
    return (
        place.with_suffix(".parquet").is_file()
        and manifest.is_file()
        and read_json(manifest).get("key") == key
    )
