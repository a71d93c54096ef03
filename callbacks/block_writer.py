"""Write each block of a prediction pass as soon as it is there, and join them at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter

from presel_lightning.data.batches import n_blocks
from presel_lightning.store import replacing


class BlockWriter(BasePredictionWriter):
    """Keep what a prediction pass has computed: one file a block, whatever rank made it.

    A block is told by the row it begins with, so a pass that was killed loses its current block
    at most, and may go on with another number of processes.

    Args:
        folder: of this pass; its name must tell what is computed.
        n_rows: rows of the pass.
        block_size: rows of a block.
    """

    def __init__(self, folder: Path, n_rows: int, block_size: int) -> None:
        super().__init__(write_interval="batch")
        self.folder, self.n_rows, self.block_size = folder, n_rows, block_size

    def path(self, block: int) -> Path:
        """File of a block."""
        return self.folder / f"block-{block:07d}.npz"

    def pending(self) -> list[int]:
        """Blocks that are not on disk."""
        blocks = range(n_blocks(self.n_rows, self.block_size))
        return [block for block in blocks if not self.path(block).exists()]

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
        arrays = {name: value.float().cpu().numpy() for name, value in prediction.items()}
        path = self.path(batch["first"] // self.block_size)
        with replacing(path) as temporary, temporary.open("wb") as handle:
            np.savez(handle, **arrays)

    def merge(self) -> dict[str, np.ndarray]:
        """Join the blocks, in the order of the rows.

        Raises:
            RuntimeError: a block is missing.
        """
        if self.pending():
            raise RuntimeError(f"{len(self.pending())} blocks are missing in {self.folder}")
        parts = [np.load(self.path(b)) for b in range(n_blocks(self.n_rows, self.block_size))]
        if not parts:
            return {}
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0].files}
