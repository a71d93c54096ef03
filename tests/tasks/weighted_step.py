"""One optimizer step on weighted samples; as a script on two processes, which writes the steps."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from lightning import Trainer
from safetensors.torch import save_file
from torch import Tensor

from presel_lightning.data import load_pool
from presel_lightning.loading.datamodule import SelectionDataModule
from presel_lightning.models import LoRA
from presel_lightning.tasks import FineTune

WEIGHTS = [3.0, 1.0, 0.0, 0.5, 1.7]
"""Of the first samples by uid: what two processes do not divide evenly."""


class Mode(NamedTuple):
    """How weights train."""

    weights: Literal["loss", "sample"] = "loss"
    reduction: Literal["global", "per_device"] = "global"
    micro: int | None = None


MODES = [
    Mode(),
    Mode(reduction="per_device"),
    Mode("sample"),
    Mode(micro=2),
    Mode(reduction="per_device", micro=2),
]


class PlainDescent(FineTune):
    """Gradient descent at rate 1: a step is the gradient."""

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=1.0)


def module(mode: Mode) -> PlainDescent:
    """The same first weights each time."""
    torch.manual_seed(0)
    lora = LoRA(r=4, alpha=8, dropout=0.0)
    made = PlainDescent("quickstart", lora=lora, dtype="float32", loss_reduction=mode.reduction)
    made.configure_model()
    return made


def data_module(run: Path, pool_folder: Path, mode: Mode) -> SelectionDataModule:
    """The pool of a finished run, all weighted samples in one global batch."""
    made = SelectionDataModule(
        "unused",
        template="vicuna_bare",
        batch_size=len(WEIGHTS),
        micro_batch_size=mode.micro,
        num_workers=0,
        weights=mode.weights,
    )
    made.pool = load_pool(run, pool_folder)
    return made


def trained(tuned: FineTune) -> dict[str, Tensor]:
    """What is trained, now."""
    named = tuned.named_parameters()
    return {name: p.detach().clone() for name, p in named if p.requires_grad}


def step(run: Path, pool_folder: Path, mode: Mode, devices: int = 1) -> dict[str, Tensor]:
    """By how much a step of the product's own fit moves each parameter."""
    tuned, data = module(mode), data_module(run, pool_folder, mode)
    before = trained(tuned)
    uids = data.pool.uid[: len(WEIGHTS)]
    weights = {uid: w for uid, w in zip(uids, WEIGHTS, strict=True) if w != 1}
    data.train_on(uids, tuned.processor, seed=0, weights=weights)
    trainer = Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        accumulate_grad_batches=data.passes(devices),
        max_epochs=1,
    )
    trainer.fit(tuned, data)
    assert trainer.global_step == 1
    return {name: before[name] - now for name, now in trained(tuned).items()}


if __name__ == "__main__":
    run, pool_folder, out = map(Path, sys.argv[1:])
    for number, mode in enumerate(MODES):
        moved = step(run, pool_folder, mode, devices=2)
        if torch.distributed.get_rank() == 0:
            save_file(moved, out / f"{number}.safetensors")
