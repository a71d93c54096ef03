"""Training checkpoints at the boundaries of optimizer steps."""

from __future__ import annotations

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from presel_lightning.run import interruption
from presel_lightning.run.ranks import asked_to_stop, barrier


class StepCheckpoint(ModelCheckpoint):
    """Keep the newest checkpoint of a fit, and stop after a step with one where a signal asks for it.

    After a resume, Lightning's `ModelCheckpoint` saves again after the first micro-batch of a step;
    a fit resumed from that checkpoint would not match its batches.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From now on a signal waits for the end of a step."""
        super().on_train_start(trainer, pl_module)
        interruption.hold()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The model is saved: a signal waits no longer."""
        super().on_train_end(trainer, pl_module)
        interruption.release()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Nor does it where the fit has failed."""
        super().on_exception(trainer, pl_module, exception)
        interruption.release()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Save after the last micro-batch of a step."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        stop = asked_to_stop()
        if stop:
            self._every_n_train_steps = 1  # whichever step this is
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if stop:
            for logger in trainer.loggers:
                logger.finalize("failed")  # Lightning's word for a fit that ended early
            barrier()  # the checkpoint is there
            interruption.leave(stop)
