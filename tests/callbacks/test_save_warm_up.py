"""Checkpoints on the way of a fit, beside what a second observer sees of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Callback, LightningModule, Trainer

from presel_lightning.callbacks import SaveModel, SaveWarmUp, StepCheckpoint
from presel_lightning.errors import UserError
from presel_lightning.loading.pairs import PairDataModule, PairVectors
from presel_lightning.run.checkpoints import newest
from presel_lightning.tasks import TwoTower
from tests.fits import Kill, Killed, quiet_trainer

WIDTH, N, STEPS = 6, 20, 10
State = dict[str, torch.Tensor]


class Watch(Callback):
    """Keeps weights and learning rate of each step, and sets a rate of its own."""

    def __init__(self) -> None:
        self.states: dict[int, State] = {}
        self.rates: dict[int, float] = {}

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        step = trainer.global_step + 1
        self.rates[step] = trainer.optimizers[0].param_groups[0]["lr"] = 0.01 / step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        state = pl_module.state_dict()
        self.states[trainer.global_step] = {name: state[name].clone() for name in state}


def fit(out: Path, *more: Callback, count: int = 3, checkpoints: Path | None = None) -> Watch:
    """Ten steps in two epochs; what the observer has seen of them."""
    rng = np.random.default_rng(0)
    image, text = (rng.normal(size=(N, WIDTH)).astype(np.float16) for _ in range(2))
    digests = np.frombuffer(rng.bytes(16 * N), dtype="V16")
    data = PairDataModule(PairVectors(image, text, digests), batch_size=4, seed=2)
    module = TwoTower(WIDTH, hidden=8, dimension=6, temperature=0.2, seed=3)
    watch, way = Watch(), SaveWarmUp(out, count, moments=False)
    way.dirpath = str(checkpoints or out.with_name(f"{out.name}-fit"))
    trainer = quiet_trainer(watch, SaveModel(out), way, *more, folder=out.parent, epochs=2)
    path = newest(checkpoints) if checkpoints else None
    trainer.fit(module, data, ckpt_path=path)
    assert trainer.global_step == STEPS
    return watch


def test_checkpoints_are_the_models_at_the_ends_of_equal_parts(tmp_path: Path) -> None:
    seen = fit(out := tmp_path / "model")
    for number, step in ((1, 4), (2, 7)):
        saved = TwoTower.load(out / "warm_up" / str(number)).state_dict()
        assert all(torch.equal(saved[name], value) for name, value in seen.states[step].items())
    assert not (out / "warm_up" / "3").exists()
    rates = json.loads((out / "warm_up.json").read_text())["rates"]
    parts = [range(1, 5), range(5, 8), range(8, 11)]
    assert rates == pytest.approx([np.mean([seen.rates[step] for step in part]) for part in parts])


def files(folder: Path) -> dict[str, bytes]:
    """Content of every file of a saved model."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.mark.parametrize("kills", [(3, 4, 5), (7, 9), (10,)], ids=str)
def test_killed_fit_leaves_equal_checkpoints(kills: tuple[int, ...], tmp_path: Path) -> None:
    """Before, at and after the end of a part, with a training checkpoint every other step."""
    fit(tmp_path / "whole")
    checkpoints = tmp_path / "fit"

    def saver() -> StepCheckpoint:
        saver = StepCheckpoint(every_n_train_steps=2)
        saver.dirpath = str(checkpoints)
        return saver

    out = tmp_path / "model"
    for at in kills:
        with pytest.raises(Killed):
            fit(out, saver(), Kill(at), checkpoints=checkpoints)
    fit(out, saver(), checkpoints=checkpoints)
    assert files(out) == files(tmp_path / "whole")


def test_fewer_steps_than_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="warmup_checkpoints is 11, and the fit of the reference model has 10"
    ):
        fit(tmp_path / "model", count=11)
    fit(tmp_path / "model", count=10)
    assert len(json.loads((tmp_path / "model" / "warm_up.json").read_text())["rates"]) == 10
