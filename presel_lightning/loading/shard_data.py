"""Training from the shards of a pool by a set of uids, without a copy of the samples."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from presel_lightning.data.images import MAX_PIXELS
from presel_lightning.errors import UserError
from presel_lightning.loading.encoder import BLACK, DUMMY, SampleEncoder
from presel_lightning.loading.encoders import encoder_of
from presel_lightning.loading.packing import packed, row_by_row
from presel_lightning.loading.resumable import ResumableDataModule
from presel_lightning.loading.samplers import GlobalBatchSampler, ResumableLoader, Row, passes
from presel_lightning.loading.shard_blocks import see
from presel_lightning.loading.templates import AUTO
from presel_lightning.records import Turn
from presel_lightning.run.process_watch import obey_parent
from presel_lightning.run.ranges import Count, NaturalNumber, Processes
from presel_lightning.shards.rows import read_sample
from presel_lightning.shards.subset import RowsStage, Subset, find, stage_of


class ShardDataModule(ResumableDataModule):
    """Image-text pairs of webdataset shards, to train a `FineTune` on.

    The places of the wanted samples are found once, in a pass over the headers of the tars, and
    kept; images are read where they lie. So every worker process and every rank has its part of
    each global batch, however few shards there are, and a continued fit goes on with the next
    batch, with any number of workers or ranks. The Trainer needs `use_distributed_sampler=False` and
    `accumulate_grad_batches=data.passes(devices)`.

    A pair is an image, `question`, and the caption as the answer. One whose image cannot be used or
    whose caption is empty is in its batch with weight 0, and a warning names it.

    Args:
        shards: folder of the tars, at any depth, or several.
        uids: subset file (`.npy` as `filter` writes it) or text with a uid a line; all samples
            without it. A uid that is m times there is seen m times an epoch.
        question: what is asked of every image; nothing by default.
        template: conversation template; `auto` finds that of the model.
        max_length: tokens of a sample, image included; longer ones are cut at the end.
        packing: put the samples of a forward pass into rows of `max_length` tokens.
        batch_size: samples of a training step, over all devices.
        micro_batch_size: samples of a forward pass, on each device; all of a device's part without
            it.
        window: shards whose samples are shuffled among each other, an epoch goes through them
            window by window; 0 shuffles all. A small one reads a network disk in order.
        num_workers: processes that decode images, for each device.
        max_pixels: images with more are not used.
        seed: of the order.
        cache: folder for the places of the samples; one in the user's cache by default.
    """

    def __init__(
        self,
        shards: str | list[str],
        uids: str | None = None,
        question: str = "",
        template: str = AUTO,
        max_length: Count = 2048,
        packing: bool = False,
        batch_size: Count = 128,
        micro_batch_size: Count | None = None,
        window: NaturalNumber = 0,
        num_workers: Processes = 4,
        max_pixels: Count = MAX_PIXELS,
        seed: NaturalNumber = 0,
        cache: str | None = None,
    ) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.folders = [Path(shards)] if isinstance(shards, str) else [Path(s) for s in shards]
        self.uids = Path(uids) if uids else None
        self.question, self.template, self.max_length = question, template, max_length
        self.packing = packing
        self.batch_size, self.micro_batch_size = batch_size, micro_batch_size
        self.window, self.seed = window, seed
        self.num_workers, self.max_pixels = num_workers, max_pixels
        self.cache = Path(cache) if cache else None
        self.subset: Subset | None = None

    @property
    def stage(self) -> RowsStage:
        """The search for the samples."""
        return stage_of(self.folders, self.uids, self.cache)

    def prepare_data(self) -> None:
        """Find the samples, in as many processes as decode images; one process a machine does."""
        find(self.stage, max(1, self.num_workers))

    def setup(self, stage: str) -> None:
        """Read what was found.

        Raises:
            UserError: no sample has one of the uids.
        """
        self.subset = find(self.stage)
        if not len(self.subset):
            raise UserError(
                f"data.uids {self.uids}: no sample of {len(self.subset.paths)} shards is wanted and "
                "usable; give the uids of these shards"
            )

    def passes(self, world: int) -> int:
        """Forward passes of a training step, on each of `world` devices."""
        return passes(self.batch_size, world, self.micro_batch_size)

    def train_dataloader(self) -> DataLoader[Any]:
        """This rank's part of each global batch, from where a continued fit was."""
        trainer: Any = self.trainer
        processor = trainer.lightning_module.processor
        return self.continued(self.loader(processor, trainer.global_rank, trainer.world_size))

    def loader(self, processor: Any, rank: int, world: int) -> ResumableLoader:  # noqa: ANN401
        """The loader of a rank.

        Args:
            processor: of the model that is trained.
            rank: place of the process.
            world: number of processes.
        """
        assert self.subset is not None, "setup comes first"
        encoder = encoder_of(self.template, processor, self.max_length)
        capacity = self.max_length if self.packing else None
        dataset = ShardSet(self.subset, encoder, self.question, self.max_pixels, capacity)
        sampler = WindowSampler(
            self.subset.shard,
            self.window,
            self.batch_size,
            self.seed,
            rank,
            world,
            self.micro_batch_size,
        )
        return ResumableLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=dataset.collate,
            num_workers=self.num_workers,
            worker_init_fn=obey_parent,
        )


class WindowSampler(GlobalBatchSampler):
    """Global batches of an epoch that goes through its shards by windows.

    Shards are shuffled, and the samples of every `window` of them among each other.

    Args:
        shard: (N,) shard of each sample.
        window: shards of a window; 0 for all.
        size: samples of a global batch.
        seed: of the order; the epoch is added to it.
        rank: place of this process.
        world: number of processes.
        micro: rows of a forward pass.
    """

    def __init__(
        self,
        shard: np.ndarray,
        window: int,
        size: int,
        seed: int,
        rank: int,
        world: int,
        micro: int | None = None,
    ) -> None:
        super().__init__(np.ones(len(shard)), size, seed, rank, world, micro)
        self.shard, self.window = shard, window

    def batches(self, epoch: int) -> list[np.ndarray]:
        """Global batches of an epoch, over all ranks."""
        rng = np.random.default_rng([self.seed, epoch])
        n_shards = int(self.shard.max()) + 1
        window = self.window or n_shards
        place = rng.permutation(n_shards)[self.shard] // window  # (N,) window of each sample
        order = np.lexsort((rng.permutation(len(self.shard)), place))
        return [order[start : start + self.size] for start in range(0, len(order), self.size)]


class ShardSet(Dataset[dict[str, Any]]):
    """Image-text pairs of shards, encoded to be trained on.

    Args:
        subset: the samples.
        encoder: of the model.
        question: asked of every image.
        max_pixels: images with more are not used.
        capacity: tokens of a packed row; None pads samples.
    """

    def __init__(
        self,
        subset: Subset,
        encoder: SampleEncoder,
        question: str = "",
        max_pixels: int = MAX_PIXELS,
        capacity: int | None = None,
    ) -> None:
        self.subset, self.encoder, self.question = subset, encoder, question
        self.max_pixels, self.capacity = max_pixels, capacity

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.subset)

    def __getitem__(self, place: Row) -> dict[str, Any]:
        """One pair with its weight."""
        index, weight = place
        path = self.subset.paths[int(self.subset.shard[index])]
        sample = read_sample(path, self.subset.rows[index])
        seen = see(sample, self.max_pixels)
        fault = seen.fault or ("" if seen.caption else "no caption")
        if fault:
            warnings.warn(f"{path.name}, uid {sample.uid}: {fault}; weight 0", stacklevel=2)
            return {**self.encoder.sample(DUMMY, BLACK), "weight": 0.0, "uid": sample.uid}
        turns = (Turn(self.question, seen.caption),)
        return {**self.encoder.sample(turns, seen.image), "weight": weight, "uid": sample.uid}

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Inputs of the model, labels (B, L) and weights (B,)."""
        if self.capacity:
            samples = row_by_row(samples, self.capacity)
            batch = packed(self.encoder.batch(samples), self.capacity)
        else:
            batch = self.encoder.batch(samples)
        return {**batch, "weight": torch.tensor([sample["weight"] for sample in samples])}
