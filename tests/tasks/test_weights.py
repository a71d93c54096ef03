"""Weighted samples in a step of the fit, against the step computed literally, token by token."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import Callback
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import cross_entropy

from presel_lightning.callbacks import StepCheckpoint
from presel_lightning.data.images import open_rgb
from presel_lightning.loading.samplers import GlobalBatchSampler
from presel_lightning.models import LoRA
from presel_lightning.models.llava import unwrapped
from presel_lightning.run.checkpoints import newest
from presel_lightning.tasks import FineTune
from tests.fits import Kill, Killed, quiet_trainer
from tests.ranks import free_port
from tests.tasks.weighted_step import MODES, WEIGHTS, Mode, data_module, module, step, trained

Part = list[tuple[int, float]]
"""Rows that one device sees in a pass, each with its weight."""


def parts(run: Path, pool_folder: Path, mode: Mode, world: int) -> list[Part]:
    """What each device is to see of the one global batch."""
    if mode.weights == "sample":
        p = np.array(WEIGHTS) / np.sum(WEIGHTS)
        drawn = np.random.default_rng([0, 0]).choice(len(WEIGHTS), len(WEIGHTS), p=p)
        return [[(int(row), 1.0) for row in drawn]]
    if mode.reduction == "global":
        return [list(enumerate(WEIGHTS))]
    lengths = data_module(run, pool_folder, mode).pool.n_words[: len(WEIGHTS)]
    ranks = [
        GlobalBatchSampler(lengths, len(WEIGHTS), 0, rank, world, mode.micro, balanced=True)
        for rank in range(world)
    ]
    return [[(row, WEIGHTS[row] * real) for row, real in part] for rank in ranks for part in rank]


def by_hand(run: Path, pool_folder: Path, mode: Mode, world: int = 1) -> dict[str, Tensor]:
    """The gradient of the documented loss, each sample alone and unpadded, a token at a time."""
    tuned, data = module(mode), data_module(run, pool_folder, mode)
    encoder, pool = data.encoder(tuned.processor), data.pool
    quotients = []
    for part in parts(run, pool_folder, mode, world):
        above, below = torch.zeros(()), 0.0
        for row, weight in part:
            sample = encoder.sample(pool.sample(row).turns, open_rgb(pool.image_path(row)))
            inputs = encoder.batch([{**sample, "weight": weight}])
            labels = inputs.pop("labels")[0]
            logits = unwrapped(tuned.model)(**inputs).logits[0]
            for place in range(1, len(labels)):
                if labels[place] != -100:
                    above = above + weight * cross_entropy(logits[place - 1], labels[place])
                    below += weight
        quotients.append(above / (below or 1.0))  # a pass of rows of weight 0 counts as 0
    (sum(quotients) / len(quotients)).backward()  # type: ignore[union-attr]
    named = tuned.named_parameters()
    return {
        n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in named if p.requires_grad
    }


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """How far two steps are apart, relative to the first."""
    gap = sum(float((one[name] - other[name]).square().sum()) for name in one)
    return float((gap / sum(float(value.square().sum()) for value in one.values())) ** 0.5)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_weighted_step_matches_the_literal_loop(
    mode: Mode, finished: Path, pool_folder: Path
) -> None:
    known = by_hand(finished, pool_folder, mode)
    assert distance(known, step(finished, pool_folder, mode)) < 1e-4


@pytest.mark.slow
def test_weighted_steps_on_two_processes_match_the_literal_loop(
    finished: Path, pool_folder: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tests.tasks.weighted_step"]
    done = subprocess.run(
        [*command, str(finished), str(pool_folder), str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "MASTER_PORT": str(free_port())},
        cwd=Path(__file__).parents[2],
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    known = [by_hand(finished, pool_folder, mode, world=2) for mode in MODES]
    for number, step_by_hand in enumerate(known):
        found = load_file(tmp_path / f"{number}.safetensors")
        assert distance(step_by_hand, found) < 1e-4, MODES[number]
    # and they are different steps
    assert distance(known[0], known[1]) > 0.01 and distance(known[0], known[2]) > 0.01


# ---------------------------------------------------------------- a fit that is cut short


def fitted(
    run: Path, pool_folder: Path, *callbacks: Callback, path: Path | None = None
) -> dict[str, Tensor]:
    """What is trained, after two epochs of 13 draws, 5 a step."""
    torch.manual_seed(0)
    lora = LoRA(r=4, dropout=0.1)
    tuned = FineTune("quickstart", lora=lora, dtype="float32", lr=1e-3, warmup=0.0)
    data = data_module(run, pool_folder, Mode("sample"))
    uids = data.pool.uid[:13]
    data.train_on(uids, tuned.processor, seed=0, weights={uids[3]: 6.0, uids[4]: 0.0})
    trainer = quiet_trainer(*callbacks, epochs=2)
    trainer.fit(tuned, data, ckpt_path=path)
    assert trainer.global_step == 6
    return trained(tuned)


@pytest.mark.parametrize("kills", [(4,), (3, 5), (3, 6)], ids=str)
def test_killed_fit_of_drawn_samples_resumes_to_equal_weights(
    kills: tuple[int, ...], finished: Path, pool_folder: Path, tmp_path: Path
) -> None:
    """Inside an epoch, and at the end of one; Lightning alone trains an epoch more after (3, 6)."""
    whole = fitted(finished, pool_folder)

    def saver() -> StepCheckpoint:
        saver = StepCheckpoint(every_n_train_steps=1)
        saver.dirpath = str(tmp_path)
        return saver

    for at in kills:
        with pytest.raises(Killed):
            fitted(finished, pool_folder, saver(), Kill(at), path=newest(tmp_path))
    path = newest(tmp_path)
    assert path is not None and path.name == f"step={kills[-1]}.ckpt"
    continued = fitted(finished, pool_folder, saver(), path=path)
    for name, value in whole.items():
        assert torch.equal(continued[name], value), name
