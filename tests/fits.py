"""Short fits by a Trainer that prints nothing, and a kill inside of one."""

from __future__ import annotations

from pathlib import Path

from lightning import Callback, Trainer


class Killed(Exception):
    """The process is gone."""


class Kill(Callback):
    """Stops a fit before a step, or after its last."""

    def __init__(self, at: int = 2) -> None:
        self.at = at

    def on_train_batch_start(self, trainer: Trainer, *_: object) -> None:
        if trainer.global_step == self.at:
            raise Killed

    def on_train_end(self, trainer: Trainer, *_: object) -> None:
        if trainer.global_step == self.at:
            raise Killed


def quiet_trainer(
    *callbacks: Callback, folder: Path | None = None, passes: int = 1, epochs: int = 1
) -> Trainer:
    """A Trainer on the CPU that keeps checkpoints only where callbacks do.

    Args:
        callbacks: such as `StepCheckpoint` and `Kill`.
        folder: where it may write.
        passes: forward passes of a step.
        epochs: length of the fit.
    """
    return Trainer(
        accelerator="cpu",
        logger=False,
        default_root_dir=folder,
        enable_checkpointing=bool(callbacks),
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        accumulate_grad_batches=passes,
        max_epochs=epochs,
    )
