"""Lightning's bar shows the stage and the time left of the run, on a terminal."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from lightning import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

from presel_lightning.callbacks import StageBar, StepCounter
from presel_lightning.run.progress import Progress, measuring
from presel_lightning.run.time_left import DoneWork, PlannedWork


class Slow(BoringModel):
    """Its steps take longer than the bar needs to be drawn."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        time.sleep(0.3)
        return super().training_step(batch, batch_idx)


def test_bar_of_a_fit_shows_stage_time_left_and_epoch_from_its_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, for rich
    monkeypatch.setenv("COLUMNS", "200")
    progress = Progress()
    progress.plan(["pool", "final"], [PlannedWork("final", "fit", 2), PlannedWork("x", "y", 60)])
    progress.done["y"] = DoneWork(1, 60)  # an hour for x
    progress.start("final")
    trainer = Trainer(
        max_epochs=2,
        limit_train_batches=1,
        limit_val_batches=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=[StepCounter(progress, "fit"), StageBar()],
    )
    with measuring(progress):
        trainer.fit(Slow())
    written = capsys.readouterr().out
    erased = written.rpartition("epoch 2/2")[2]
    assert "\x1b[1A\x1b[2K" in erased, "the bar of a fit that has ended does not stay"
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)
    assert re.search(
        r"stage 2 of 2, final: about 1 h left \(not counted yet: fit\), epoch 1/2 \S+ 0/1", shown
    )
    assert "stage 2 of 2, final: about 1 h left, epoch 2/2" in shown
    progress.end("final")
    assert progress.done["fit"].amount == 2
