"""Steps that last long enough to be stopped in."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelSummary

SLOW = ["--trainer.callbacks", "[{class_path: tests.run.slow_steps.SlowSteps}]"]


class SlowSteps(ModelSummary):
    """Waits after each pass of a fit, and leaves a file when it first does; a fit comes out the same."""

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        (Path(trainer.default_root_dir) / "begun").touch()
        time.sleep(0.5)
