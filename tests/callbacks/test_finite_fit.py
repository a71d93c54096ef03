"""A fit that diverges: where it stops, what it says, and what it leaves."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

from presel_lightning.callbacks import FiniteFit
from presel_lightning.cli.main import main
from presel_lightning.errors import Diverged
from presel_lightning.run.checkpoints import step_of
from presel_lightning.run.files import read_json
from tests.conftest import fit_arguments
from tests.ranks import on_one_machine

EVERY = 3
"""Steps between two checks."""


def test_diverged_fit_stops_at_the_next_logged_step_and_keeps_a_finite_checkpoint(
    pool_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    more = ["--selector", "Random", "--data.budget", "40", "--data.batch_size", "4"]
    more += ["--model.lr", "1e30", "--checkpoint_every", "1", "--baselines", "--benchmarks", "[]"]
    arguments = fit_arguments(pool_folder, out, *more, "--trainer.log_every_n_steps", str(EVERY))
    assert main(arguments) == 1
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and "Traceback" not in error
    found = re.search(r"fit of final: the loss is NaN or infinite at step (\d+) \((.*)\): ", error)
    assert found is not None and "lower model.lr" in error and "bf16" in error
    facts = found[2]
    assert re.match(r"tasks (caption|colour|count|shape)[\w, ]*; learning rate [\d.]+e\+\d+", facts)
    step = int(found[1])
    kept = sorted(out.glob("work/fit-final-*/*.ckpt"), key=step_of)
    assert 1 <= len(kept) <= 2
    checkpoint = torch.load(kept[-1], weights_only=False)
    # ten steps to the end; none after the check was trained, and none of a non-finite loss is kept
    assert 0 < checkpoint["global_step"] < step <= -(-step // EVERY) * EVERY < 10
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())
    assert not (out / "models/final").exists()
    assert read_json(out / "run.json")["stages"]["final"]["status"] == "running"
    assert main(arguments) == 1  # it continues from the checkpoint, to the same end
    assert f"at step {step}" in capfd.readouterr().err


@pytest.mark.slow
def test_diverged_fit_ends_on_both_processes_where_a_checkpoint_is_due(
    pool_folder: Path, tmp_path: Path
) -> None:
    more = ["--model.lr", "1e25", "--trainer.max_epochs", "6", "--checkpoint_every", "1"]
    log = tmp_path / "log"
    started = on_one_machine(fit_arguments(pool_folder, tmp_path / "run", *more), log, ())
    assert [process.wait() for process in started] == [1, 1]
    assert "fit of reference: the loss is NaN or infinite at step" in log.read_text()
    for path in (log, log.with_name("log-1")):
        assert "Traceback" not in path.read_text()


def test_weights_that_are_not_finite_are_never_written(tmp_path: Path) -> None:
    """Though every loss was: the last gradient may have been infinite."""
    options: dict[str, Any] = dict.fromkeys(("logger", "enable_progress_bar", "barebones"), False)
    trainer = Trainer(accelerator="cpu", default_root_dir=tmp_path, **options)
    module, callback = BoringModel(), FiniteFit("reference")
    trainer.strategy.connect(module)
    callback.on_save_checkpoint(trainer, module, {})
    with torch.no_grad():
        module.layer.weight[0, 1] = float("inf")
    with pytest.raises(Diverged, match="reference: the weights are not finite after step 0"):
        callback.on_save_checkpoint(trainer, module, {})
    with pytest.raises(Diverged, match="not finite"):
        callback.on_train_end(trainer, module)
    module.layer.weight.requires_grad = False  # what is frozen is in no checkpoint
    callback.on_train_end(trainer, module)
