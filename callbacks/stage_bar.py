"""Lightning's progress bar with the stage of the run and the time left for all of it."""

from __future__ import annotations

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

from presel_lightning.run.progress import current


class StageBar(RichProgressBar):
    """Show, before the bar of a fit or a pass, which stage it is and when the run will be done."""

    def __init__(self) -> None:
        super().__init__(leave=False)

    @property
    def predict_description(self) -> str:
        """Stage and time left when a pass begins."""
        return str(current())

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Refresh the words before the bar of a fit."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        epochs = trainer.max_epochs or 1
        epoch = f", epoch {trainer.current_epoch + 1}/{epochs}" if epochs > 1 else ""
        self._describe(self.train_progress_bar_id, epoch)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Refresh the words before the bar of a pass."""
        super().on_predict_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)
        self._describe(self.predict_progress_bar_id)

    def _describe(self, bar: Any, more: str = "") -> None:  # noqa: ANN401 - rich's id of a bar
        if self.progress is not None and bar is not None:
            self.progress.live.transient = True  # what stays is the line of the finished stage
            self.progress.update(bar, description=f"{current()}{more}")
