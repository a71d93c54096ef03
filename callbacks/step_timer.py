"""End a fit at its time limit, after a whole step."""

from __future__ import annotations

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Timer


class StepTimer(Timer):
    """Stop a fit at the first whole step after its time limit.

    Lightning's `Timer` may stop inside a step of several passes, whose gradients are then lost; and
    a fit that is continued after its limit would end before it saves its model.

    Args:
        duration: time limit, as `Timer` takes it; None for no limit.
    """

    planned = 0
    """Steps of the whole fit."""

    def __init__(self, duration: str | dict[str, int] | None = None) -> None:
        super().__init__(duration, verbose=False)

    def on_fit_start(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Let a continued fit take a step, whatever its time."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        super().on_train_start(trainer, pl_module)
        self.planned = int(trainer.estimated_stepping_batches)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Ask the Trainer to stop where the time is up, after the last pass of a step."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def has_cut(self, trainer: Trainer) -> bool:
        """Return whether the limit has ended the fit before its last step."""
        remaining = self.time_remaining()
        if remaining is None or trainer.global_step >= self.planned:
            return False
        return bool(trainer.strategy.broadcast(remaining <= 0))  # clocks differ
