"""The devices of the final fit, and the memory that it takes on each."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy

from presel_lightning.check.cost import gpu_memory
from presel_lightning.check.network import Network
from presel_lightning.check.probe import DevicePass
from presel_lightning.check.report import Report
from presel_lightning.check.tokens import Lengths
from presel_lightning.console import size
from presel_lightning.loading.datamodule import SelectionDataModule
from presel_lightning.recipe.plan import Plan, StageFactory
from presel_lightning.tasks import FineTune

SHARDING = (FSDPStrategy, ModelParallelStrategy, DeepSpeedStrategy)
"""Strategies that shard weights and optimizer over the devices."""


class Devices(NamedTuple):
    """Devices of the final fit.

    Attributes:
        world: number of processes.
        shards: number of processes that weights are sharded over.
        kind: `cuda` or `cpu`; empty where this machine lacks the devices.
        precision: precision of the computation.
    """

    world: int
    shards: int
    kind: str = ""
    precision: Any = None

    def one_pass(self, data: SelectionDataModule) -> DevicePass:
        """Return the forward and backward pass of one device."""
        share = -(-data.batch_size // self.world)
        return DevicePass(min(share, data.micro_batch_size or share), self.kind, self.precision)


def count_devices(plan: Plan, factory: StageFactory, report: Report) -> Devices:
    """Return the devices of the final fit by its Trainer; one where this machine lacks them."""
    try:
        trainer = factory.trainer("final", plan.out / "logs" / "check")
    except (MisconfigurationException, ImportError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        report.notes.append(f"the Trainer cannot be built on this machine: {reason}")
        return Devices(1, 1)
    world = trainer.num_devices * trainer.num_nodes
    shards = world if isinstance(trainer.strategy, SHARDING) else 1
    return Devices(world, shards, trainer.strategy.root_device.type, trainer.precision)


def examine_memory(
    plan: Plan,
    devices: Devices,
    network: Network,
    module: FineTune,
    lengths: Lengths,
    report: Report,
) -> None:
    """Report the memory of one GPU in the final fit, and that of the GPU where there is one."""
    per_device = devices.one_pass(plan.data).samples
    needed = gpu_memory(
        network,
        per_device,
        lengths.longest,
        lengths.answer,
        checkpointing=module.gradient_checkpointing,
        shards=devices.shards,
    )
    what = f"{devices.world} x {per_device} samples of {lengths.longest:,} tokens a pass"
    report.add("memory", what, f"about {size(needed)} a device")
    if torch.cuda.is_available():
        there = torch.cuda.get_device_properties(0).total_memory
        report.add("memory", torch.cuda.get_device_name(0), size(there))
        if needed > there:
            report.notes.append(
                f"a fit needs about {size(needed)} a device and there are {size(there)}: use more "
                "devices, model.gradient_checkpointing, or a smaller data.micro_batch_size"
            )
