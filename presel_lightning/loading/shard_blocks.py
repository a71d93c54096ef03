"""Blocks of a shard's samples, for passes that read whole shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from lightning import LightningDataModule
from PIL import Image, UnidentifiedImageError
from torch.utils.data import IterableDataset, get_worker_info

from presel_lightning.data.formats import formats, open_image
from presel_lightning.data.images import MAX_PIXELS, check_size
from presel_lightning.data.pixels import rgb_of
from presel_lightning.filters.faults import Listed
from presel_lightning.loading.encoder import BLACK
from presel_lightning.loading.loader import Loader
from presel_lightning.run.process_watch import obey_parent
from presel_lightning.shards.rows import WebSample, read_sample, shard_rows

Batch = dict[str, Any]


class Seen(NamedTuple):
    """A sample with its image decoded.

    Attributes:
        image: a black one where the image cannot be used.
        fault: why it cannot; empty where it can.
    """

    image: Image.Image
    caption: str
    fault: str


class Shard(NamedTuple):
    """A shard, and where its blocks go.

    Attributes:
        path: tar.
        folder: of the blocks that are done.
    """

    path: Path
    folder: Path

    def block(self, number: int) -> Path:
        """File of a block."""
        return self.folder / f"block-{number:06d}.npz"


class ShardBlocks(IterableDataset[Batch]):
    """The blocks of some shards that are not done, one shard after the other.

    Each worker process takes every n-th block of every shard.

    Args:
        shards: of this process.
        size: samples of a block.
        encode: a block's samples to what a module reads.
        max_pixels: images with more are not used.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        size: int,
        encode: Callable[[list[Seen]], Batch],
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.shards, self.size, self.encode = list(shards), size, encode
        self.max_pixels = max_pixels

    def __iter__(self) -> Iterator[Batch]:
        """Blocks, with the number of their shard and their own."""
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for number, shard in enumerate(self.shards):
            rows = shard_rows(shard.path, Listed("skip"))
            n = n_blocks(rows, self.size)
            for block in range(first, n, step):
                if shard.block(block).exists():
                    continue
                some = rows[block * self.size : (block + 1) * self.size]
                seen = [see(read_sample(shard.path, row), self.max_pixels) for row in some]
                yield {
                    "shard": number,
                    "block": block,
                    "n_blocks": n,
                    "faults": [each.fault for each in seen],
                    **self.encode(seen),
                }


def n_blocks(rows: np.ndarray, size: int) -> int:
    """How many blocks a shard has."""
    return -(-len(rows) // size)


def see(sample: WebSample, max_pixels: int = MAX_PIXELS) -> Seen:
    """Decode the image of a sample."""
    try:
        with open_image(BytesIO(sample.image)) as image:
            if (problem := check_size(*image.size, max_pixels)) is not None:
                return Seen(BLACK, sample.caption, ": ".join(problem))
            return Seen(rgb_of(image, "as_shown"), sample.caption, "")
    except UnidentifiedImageError:  # its message names an address in memory
        return Seen(BLACK, sample.caption, f"not_an_image: none of {', '.join(formats())}")
    except Exception as error:  # noqa: BLE001 - decoders raise whatever they like on broken data
        return Seen(BLACK, sample.caption, f"unreadable: {type(error).__name__}: {error}"[:200])


class ShardPass(LightningDataModule):
    """Shards for a prediction, every process its own.

    Args:
        shards: those that are not done, the same on every process.
        size: samples of a block.
        encode: a block's samples to what a module reads.
        num_workers: processes that decode images, for each device.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        size: int,
        encode: Callable[[list[Seen]], Batch],
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.shards, self.size, self.encode = list(shards), size, encode
        self.num_workers = num_workers

    def own(self) -> list[Shard]:
        """The shards of this process."""
        trainer: Any = self.trainer
        return self.shards[trainer.global_rank :: trainer.world_size]

    def predict_dataloader(self) -> Loader:
        """This process's blocks."""
        return Loader(
            ShardBlocks(self.own(), self.size, self.encode),
            batch_size=None,
            num_workers=self.num_workers,
            worker_init_fn=obey_parent,
        )
