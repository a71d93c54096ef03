"""Lightning's progress bar with the stage of the run and the time left for all of it."""

from __future__ import annotations

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

from presel_lightning.run.progress import current


class StageBar(RichProgressBar):
    """Show, before the bar of a fit or a pass, the stage and the time left of the run."""

    def __init__(self) -> None:
        super().__init__(leave=False)

    @property
    def predict_description(self) -> str:
        """Stage and time left when a pass begins."""
        return str(current())

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Describe the bar of a fit."""
        super().on_train_epoch_start(trainer, pl_module)
        self._describe_fit(trainer)
        self.refresh()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Refresh the description of the bar of a fit."""
        self._describe_fit(trainer)
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Refresh the description of the bar of a pass."""
        self._describe(self.predict_progress_bar_id)
        super().on_predict_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)

    def _describe_fit(self, trainer: Trainer) -> None:
        epochs = trainer.max_epochs or 1
        epoch = f", epoch {trainer.current_epoch + 1}/{epochs}" if epochs > 1 else ""
        self._describe(self.train_progress_bar_id, epoch)

    def _describe(self, bar: Any, more: str = "") -> None:  # noqa: ANN401 - rich's id of a bar
        if self.progress is not None and bar is not None:
            self.progress.live.transient = True  # what stays is the line of the finished stage
            self.progress.update(bar, description=f"{current()}{more}")
