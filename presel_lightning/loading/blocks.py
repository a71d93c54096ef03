"""A DataModule's part for prediction: blocks that do not depend on what is left to do."""

from __future__ import annotations

from typing import Any

from torch.utils.data import Dataset

from presel_lightning.errors import UserError
from presel_lightning.loading.loader import Loader
from presel_lightning.loading.resumable import ResumableDataModule
from presel_lightning.loading.samplers import Blocks, BlockSampler
from presel_lightning.run.process_watch import obey_parent


class BlockDataModule(ResumableDataModule):
    """Serves a dataset to a prediction, block by block; blocks that are there are left out.

    Args:
        num_workers: processes that read ahead.
    """

    def __init__(self, num_workers: int) -> None:
        super().__init__()
        self.num_workers = num_workers
        self.dataset: Dataset[Any] | None = None
        self.blocks: Blocks = []
        self._pending: list[int] = []

    def hold(self, dataset: Dataset[Any], blocks: Blocks) -> Blocks:
        """Keep a dataset, and its rows in blocks, for the next prediction."""
        self.dataset, self.blocks, self._pending = dataset, blocks, list(range(len(blocks)))
        return blocks

    def serve(self, pending: list[int]) -> None:
        """Serve these blocks of it alone."""
        self._pending = pending

    def predict_dataloader(self) -> Loader:
        """This rank's blocks.

        Raises:
            UserError: nothing is there to be read.
        """
        if self.dataset is None:
            raise UserError("nothing to predict: call pair_up, read_as, show or match first")
        trainer: Any = self.trainer
        place = trainer.global_rank, trainer.world_size
        sampler = BlockSampler(self.blocks, self._pending, *place)
        return Loader(self.dataset, batch_sampler=sampler, **self.loader_options(self.dataset))

    def loader_options(self, dataset: Dataset[Any]) -> dict[str, Any]:
        """How a loader reads: collation, worker processes that end with this one."""
        return {
            "collate_fn": dataset.collate,  # type: ignore[attr-defined]
            "num_workers": self.num_workers,
            "worker_init_fn": obey_parent,
        }
