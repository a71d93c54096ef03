"""A fit, or a pass, that waits to be stopped."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelSummary

from presel_lightning.run import interruption

HELD = ["--trainer.callbacks", "[{class_path: tests.run.held_steps.HeldSteps}]"]


def hold(out: Path, stage: str) -> Path:
    """Have a stage wait in its first step or block, as long as the file that is returned is there.

    It waits until a signal has asked its process to stop; a file `begun` beside tells that it does.
    """
    path = out / "logs" / stage / "hold"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name("begun").unlink(missing_ok=True)
    path.touch()
    return path


class HeldSteps(ModelSummary):
    """Waits after a step or a block where `hold` says so; what is computed is the same.

    Of the processes of a pass the first waits, and the others for it.
    """

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        wait(trainer)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if trainer.is_global_zero:
            wait(trainer)


def wait(trainer: Trainer) -> None:
    """Wait until a signal has come, or the file is gone."""
    path = Path(trainer.default_root_dir) / "hold"
    if path.exists():
        path.with_name("begun").touch()
    while path.exists() and not interruption.requested():
        time.sleep(0.01)
