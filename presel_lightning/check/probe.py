"""Some steps of the fit that is planned: what a device gets through, and the memory it takes."""

from __future__ import annotations

import copy
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer

from presel_lightning.check.report import Report, size
from presel_lightning.data import build_pool, load_pool
from presel_lightning.data.annotations import Record
from presel_lightning.data.source import PoolSource
from presel_lightning.errors import UserError
from presel_lightning.loading.datamodule import SelectionDataModule
from presel_lightning.run.files import write_json
from presel_lightning.run.stages import peak_memory_mb
from presel_lightning.tasks import FineTune

LONG = 4
"""Steps on the longest samples, for the memory."""
TYPICAL = 16
"""Steps on samples as they come, for the time; of which"""
WARM = 4
"""so many come before the clock starts."""


@dataclass(frozen=True)
class Pass:
    """A forward and backward pass as the fit does it.

    Attributes:
        samples: of it, on one device.
        kind: of the device, `cuda` or `cpu`.
        precision: of the computation.
    """

    samples: int
    kind: str
    precision: Any


@dataclass(frozen=True)
class Measured:
    """What the steps took.

    Attributes:
        samples_a_second: of one device, images read and decoded.
        peak_bytes: of the device where it is a GPU, else of this process.
        device: its name.
    """

    samples_a_second: float
    peak_bytes: float
    device: str


class Clock(Callback):
    """When each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Wait for the device, then look."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())

    def seconds(self) -> float:
        """Of one step, in the mean over those after the first `WARM`."""
        counted = self.ends[WARM - 1 :]
        return (counted[-1] - counted[0]) / (len(counted) - 1)


def longest_and_sampled(
    records: Sequence[Record], n: int, seed: int
) -> tuple[list[Record], list[Record]]:
    """The longest records, and as many as are asked for of the others, at random."""
    order = sorted(records, key=lambda record: -len(str(record["conversations"])))
    longest, others = order[:n], order[n:] or order
    return longest, random.Random(seed).sample(others, min(len(others), n * TYPICAL // LONG))


def serve(
    data: SelectionDataModule, source: PoolSource, records: Sequence[Record], folder: Path
) -> SelectionDataModule:
    """A data module over some of the records, broken images left out.

    Raises:
        UserError: none is left.
    """
    folder.mkdir()
    write_json(folder / "records.json", list(records))
    few = replace(
        source, files=(("probe", folder / "records.json"),), task_rules=(), verify="full", workers=0
    )
    build_pool(few, folder)
    served = copy.copy(data)
    served.pool = load_pool(folder, source.image_root)
    if not len(served.pool):
        raise UserError(
            "probe: none of the sampled records can be trained on; --probe false leaves it out"
        )
    return served


def probe(
    data: SelectionDataModule,
    source: PoolSource,
    records: Sequence[Record],
    module: FineTune,
    one: Pass,
    seed: int,
) -> Measured:
    """Train a few steps of the planned fit on one device and measure them.

    Each step is one pass and the optimizer. Nothing is kept.

    Args:
        data: of the run.
        source: of its pool.
        records: to take samples from.
        module: as the fit has it, before any weight is loaded.
        one: the pass.
        seed: of the draw.

    Raises:
        UserError: the pass does not fit into the device's memory.
    """
    if one.kind == "cuda":
        torch.cuda.reset_peak_memory_stats()
    longest, typical = longest_and_sampled(records, LONG * one.samples, seed)
    try:
        with tempfile.TemporaryDirectory() as name:
            served = serve(data, source, longest, Path(name) / "long")
            steps(served, module, one, LONG, Clock(), name)
            served = serve(data, source, typical, Path(name) / "typical")
            steps(served, module, one, TYPICAL, clock := Clock(), name)
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"probe: a pass of {one.samples} samples does not fit into the GPU: lower "
            "data.micro_batch_size, or set model.gradient_checkpointing"
        ) from error
    device = torch.cuda.get_device_name() if one.kind == "cuda" else "CPU"
    return Measured(one.samples / clock.seconds(), peak_memory_mb() * 2**20, device)


def steps(
    data: SelectionDataModule, module: FineTune, one: Pass, n: int, clock: Clock, folder: str
) -> None:
    """Train some steps of one pass each, on one device."""
    data.batch_size, data.micro_batch_size = one.samples, None
    uids: np.ndarray = data.pool.uid
    data.train_on(uids, module.processor, seed=0)
    trainer = Trainer(
        accelerator=one.kind,
        devices=1,
        precision=one.precision,
        max_steps=n,
        max_epochs=-1,
        callbacks=[clock],
        logger=False,
        default_root_dir=folder,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, datamodule=data)


def report_probe(found: Measured, one: Pass, report: Report) -> None:
    """Show what was measured."""
    rate = f"{found.samples_a_second:.3g} samples/s in fits, {one.samples} a pass"
    report.add("probe", found.device, f"{rate}, {LONG + TYPICAL} steps")
    where = "of the GPU" if one.kind == "cuda" else "of this process"
    report.add("probe", "peak memory", f"{size(found.peak_bytes)} {where}")
