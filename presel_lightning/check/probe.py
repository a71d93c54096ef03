"""Probe: some steps of the planned fit, to measure throughput and peak memory."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer

from presel_lightning.check.report import Report
from presel_lightning.console import size
from presel_lightning.data import build_pool, load_pool
from presel_lightning.data.entries import Record
from presel_lightning.data.source import PoolSource
from presel_lightning.errors import UserError
from presel_lightning.loading.datamodule import SelectionDataModule
from presel_lightning.run.files import write_json
from presel_lightning.run.interruption import temporary_folder
from presel_lightning.run.meter import Meter
from presel_lightning.tasks import FineTune

LONG = 4
"""Steps on the longest samples, to measure memory."""
TYPICAL = 16
"""Steps on random samples, to measure time; of which"""
WARM = 4
"""this many are warm-up."""


@dataclass(frozen=True)
class DevicePass:
    """A forward and backward pass of the fit on one device.

    Attributes:
        samples: samples of the pass.
        kind: kind of the device, `cuda` or `cpu`.
        precision: precision of the computation.
    """

    samples: int
    kind: str
    precision: Any


@dataclass(frozen=True)
class Measured:
    """Measurements of a probe.

    Attributes:
        samples_a_second: throughput of one device, with reading and decoding of images.
        peak_bytes: peak memory of the GPU, on a CPU of this process.
        device: name of the device.
    """

    samples_a_second: float
    peak_bytes: float
    device: str


class Clock(Callback):
    """Records the end time of each step."""

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
        """Synchronize the device, and record the time."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())

    def seconds(self) -> float:
        """Compute the mean seconds of a step after the warm-up."""
        counted = self.ends[WARM - 1 :]
        return (counted[-1] - counted[0]) / (len(counted) - 1)


def longest_and_sampled(
    records: Sequence[Record], n: int, seed: int
) -> tuple[list[Record], list[Record]]:
    """Return the n longest records, and a random sample of the others."""
    order = sorted(records, key=lambda record: -len(str(record["conversations"])))
    longest, others = order[:n], order[n:] or order
    return longest, random.Random(seed).sample(others, min(len(others), n * TYPICAL // LONG))


def serve(
    data: SelectionDataModule, source: PoolSource, records: Sequence[Record], folder: Path
) -> SelectionDataModule:
    """Build a data module over some of the records, without broken images.

    Raises:
        UserError: no record is left.
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
            "probe: none of the sampled records can be trained on; skip the probe by --probe false"
        )
    return served


def probe(
    data: SelectionDataModule,
    source: PoolSource,
    records: Sequence[Record],
    module: FineTune,
    one: DevicePass,
    seed: int,
) -> Measured:
    """Train a few steps of the planned fit on one device and measure them.

    Each step is one pass and one optimizer step. No files are left.

    Args:
        data: data module of the run.
        source: source of its pool.
        records: records to sample from.
        module: module of the fit, without weights.
        one: the pass.
        seed: seed of the sample.

    Returns:
        Throughput and peak memory.

    Raises:
        UserError: the pass does not fit into the device's memory.
    """
    longest, typical = longest_and_sampled(records, LONG * one.samples, seed)
    try:
        with temporary_folder() as folder, Meter() as meter:
            meter.runs_on(one.kind, 1)
            served = serve(data, source, longest, folder / "long")
            steps(served, module, one, LONG, Clock(), str(folder))
            served = serve(data, source, typical, folder / "typical")
            steps(served, module, one, TYPICAL, clock := Clock(), str(folder))
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"probe: a pass of {one.samples} samples does not fit into the GPU: lower "
            "data.micro_batch_size, or set model.gradient_checkpointing"
        ) from error
    device = torch.cuda.get_device_name() if one.kind == "cuda" else "CPU"
    peak = float(meter.facts()["peak_memory_mb"]) * 2**20
    return Measured(one.samples / clock.seconds(), peak, device)


def steps(
    data: SelectionDataModule, module: FineTune, one: DevicePass, n: int, clock: Clock, folder: str
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


def report_probe(found: Measured, one: DevicePass, report: Report) -> None:
    """Report the measurements."""
    rate = f"{found.samples_a_second:.3g} samples/s in fits, {one.samples} a pass"
    report.add("probe", found.device, f"{rate}, {LONG + TYPICAL} steps")
    where = "of the GPU" if one.kind == "cuda" else "of this process"
    report.add("probe", "peak memory", f"{size(found.peak_bytes)} {where}")
