"""Training checkpoints at the boundaries of optimizer steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class StepCheckpoint(ModelCheckpoint):
    """Keep the newest checkpoint of a fit.

    After a resume, Lightning's `ModelCheckpoint` saves again after the first micro-batch of a step;
    a fit resumed from that checkpoint would not match its batches.
    """

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Save after the last micro-batch of a step."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
            if trainer.should_stop and self.dirpath is not None:  # its time is up: it may go on
                self._keep(trainer, Path(self.dirpath))

    def _keep(self, trainer: Trainer, folder: Path) -> None:
        """Save the step that the fit stops at, in place of that of an earlier stop."""
        earlier = list(folder.glob("stop-*.ckpt"))
        trainer.save_checkpoint(folder / f"stop-{trainer.global_step}.ckpt")
        for path in earlier:
            trainer.strategy.remove_checkpoint(path)
