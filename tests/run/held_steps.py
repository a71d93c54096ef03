"""A fit that waits to be stopped."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelSummary

from presel_lightning.run import interruption

HELD = ["--trainer.callbacks", "[{class_path: tests.run.held_steps.HeldSteps}]"]


def hold(out: Path, stage: str) -> Path:
    """Have the fit of a stage wait in its first step, as long as the file that is returned is there.

    It waits until a signal has asked its process to stop; a file `begun` beside tells that it does.
    """
    path = out / "logs" / stage / "hold"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name("begun").unlink(missing_ok=True)
    path.touch()
    return path


class HeldSteps(ModelSummary):
    """Waits after a pass of a fit where `hold` says so; the fit comes out the same."""

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        path = Path(trainer.default_root_dir) / "hold"
        if path.exists():
            path.with_name("begun").touch()
        while path.exists() and not interruption.requested():
            time.sleep(0.01)
