"""Write each block of a prediction pass as soon as it is there, and join them at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter

from presel_lightning.loading.blocks import BlockDataModule
from presel_lightning.loading.samplers import Blocks
from presel_lightning.run import interruption
from presel_lightning.run.arrays import new_array
from presel_lightning.run.files import remove, replacing
from presel_lightning.run.progress import current
from presel_lightning.run.ranks import (
    asked_to_stop,
    barrier,
    broadcast,
    rank_and_world,
    rank_zero,
    wait_for,
)


class BlockWriter(BasePredictionWriter):
    """Keep what a prediction pass has computed: one file a block, whatever rank made it.

    Where a signal asks for it, all processes stop after the block that each has under way.

    A block is named by the row it begins with, so a pass that was killed loses its current block
    at most, and may go on with another number of processes.

    Args:
        folder: of this pass; its name must say what is computed, in what blocks.
        blocks: rows of every block.
    """

    def __init__(self, folder: Path, blocks: Blocks) -> None:
        super().__init__(write_interval="batch")
        self.folder, self.blocks = folder, blocks
        self._rounds = 0  # blocks of the process that has most of them
        self.number = {int(rows[0]): number for number, rows in enumerate(blocks)}

    def path(self, block: int) -> Path:
        """File of a block."""
        return self.folder / f"block-{block:07d}.npz"

    def pending(self) -> list[int]:
        """Blocks that are not on disk."""
        return [block for block in range(len(self.blocks)) if not self.path(block).exists()]

    def fill(self, trainer: Trainer, module: LightningModule, data: BlockDataModule) -> None:
        """Compute the blocks that are missing, each process its own, until the first has all."""
        pending = broadcast(self.pending)
        rows = [len(block) for block in self.blocks]
        current().measure(already_done=sum(rows) - sum(rows[block] for block in pending))
        if not pending:
            return
        trainer.callbacks.append(self)  # type: ignore[attr-defined]
        data.serve(pending)
        self._rounds = -(-len(pending) // rank_and_world()[1])
        trainer.predict(module, datamodule=data, return_predictions=False)
        self._stop_with_others()
        barrier()
        if rank_zero():
            wait_for(lambda: not self.pending(), self.folder)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From now on a signal waits for the end of a block."""
        interruption.hold()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """All blocks of this process are on disk: a signal waits no longer."""
        self._stop_with_others()
        interruption.release()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Nor does it where the pass has failed."""
        interruption.release()

    def _stop_with_others(self) -> None:
        """Agree with processes that have a block more."""
        while self._rounds > 0:
            self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        self._rounds -= 1
        if stop := asked_to_stop():
            barrier()
            interruption.leave(stop)

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
        arrays = {name: value.cpu().numpy() for name, value in prediction.items()}
        path = self.path(self.number[batch["first"]])
        size = sum(array.nbytes for array in arrays.values())
        with replacing(path, size) as temporary, temporary.open("wb") as handle:
            np.savez(handle, **arrays)
        # the other processes have blocks of about the same size under way
        current().advance(len(self.blocks[self.number[batch["first"]]]) * rank_and_world()[1])
        self._stop_if_asked()

    def merge(self) -> dict[str, np.ndarray]:
        """Join the blocks, in the order of the rows, into one memory-mapped array a name.

        No more than a block is held in memory.

        Raises:
            RuntimeError: a block is missing.
        """
        if self.pending():
            raise RuntimeError(f"{len(self.pending())} blocks are missing in {self.folder}")
        whole: dict[str, np.ndarray] = {}
        try:
            self._fill_columns(whole)
        except OSError:
            for name in whole:
                remove(self._column_path(name))
            raise
        return whole

    def _fill_columns(self, whole: dict[str, np.ndarray]) -> None:
        for number, rows in enumerate(self.blocks):
            with np.load(self.path(number)) as part:
                for name in part.files:
                    values = part[name]
                    if name not in whole:
                        whole[name] = self._column(name, values)
                    whole[name][rows] = values

    def _column_path(self, name: str) -> Path:
        return self.folder / f"{name}.npy"

    def _column(self, name: str, like: np.ndarray) -> np.ndarray:
        shape = (sum(map(len, self.blocks)), *like.shape[1:])
        return new_array(self._column_path(name), like.dtype, shape)
