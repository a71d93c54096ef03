"""Count the steps of a fit for the time left of a run."""

from __future__ import annotations

from typing import Any

from lightning import Callback, LightningModule, Trainer

from presel_lightning.run.progress import Progress


class StepCounter(Callback):
    """Counts the steps of a fit for the time left of the run.

    Args:
        progress: of the run.
        kind: of the steps.
    """

    def __init__(self, progress: Progress, kind: str) -> None:
        self.progress, self.kind = progress, kind
        self._step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin behind the steps of an earlier start."""
        self._step = trainer.global_step
        planned = float(trainer.estimated_stepping_batches)
        self.progress.measure(self.kind, total=planned, already_done=self._step)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Count a step that is whole."""
        self.progress.advance(trainer.global_step - self._step)
        self._step = trainer.global_step
