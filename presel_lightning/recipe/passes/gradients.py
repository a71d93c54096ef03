"""Sketched gradients of every sample, and of a validation file's, at checkpoints of the reference fit."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from lightning import LightningModule

from presel_lightning.callbacks.save_moments import MOMENTS
from presel_lightning.callbacks.save_warm_up import RATES, warm_up_folder
from presel_lightning.data.source import PoolSource
from presel_lightning.loading.datamodule import SelectionDataModule
from presel_lightning.loading.datasets import ReadSet, WholeSet
from presel_lightning.loading.samplers import Blocks
from presel_lightning.recipe.beside import pool_beside, source_beside
from presel_lightning.recipe.passes.base import ReferencePass, Throughput, Work
from presel_lightning.run.files import read_json
from presel_lightning.run.fingerprint import fingerprint
from presel_lightning.run.ranks import broadcast, rank_zero
from presel_lightning.run.time_left import PlannedWork
from presel_lightning.signals import Gradients, PairedLoss, Signal
from presel_lightning.tasks.block_writer import BlockWriter
from presel_lightning.tasks.gradients import SampleGradients
from presel_lightning.tasks.head_gradients import HeadGradients


class Validation(NamedTuple):
    """A validation set whose gradients have columns of their own."""

    data: SelectionDataModule
    """Serves its samples."""
    rows: np.ndarray
    """(v,) those of its pool that have an instruction."""


class GradientsPass(ReferencePass):
    """Tunes the reference model, and takes the gradients of its adapters for every sample."""

    signal: ClassVar[type[Signal]] = Gradients
    inputs: ClassVar[type[ReadSet]] = WholeSet
    reader: ClassVar[type[SampleGradients | HeadGradients]] = SampleGradients
    reads_validation: ClassVar[bool] = True

    @property
    def update(self) -> str:
        """What is taken of the samples of the pool: the gradient (`sgd`), or the step of `adam` on it."""
        return self.context.plan.gradient_update

    def prepare(self, uids: np.ndarray) -> tuple[LightningModule, Blocks]:
        """Build the reader, and lay the samples out for it."""
        reader = self.build(self.update)
        return reader, self.context.data.read_as(self.inputs, uids, reader.tuned.processor)

    def build(self, update: str, folder: Path | None = None) -> SampleGradients | HeadGradients:
        """Build the reader of gradients as they are (`sgd`), or of the steps of `adam` on them.

        Args:
            update: which of both.
            folder: of the model; by default the reference model's.
        """
        plan, folder = self.context.plan, folder or self.reference_model
        given = {"moments": folder / MOMENTS} if update == "adam" else {}
        model = self.fits.scoring.trained("losses", folder)
        return self.reader(model, plan.gradient_width, plan.seed, **given)

    @property
    def reference_model(self) -> Path:
        """Folder of the reference model, and of the earlier checkpoints of its fit."""
        return self.context.out / "models" / "reference"

    @property
    def checkpoints(self) -> int:
        """Checkpoints of the reference fit that gradients are taken at, its end included."""
        return self.context.plan.warmup_checkpoints

    def rests_on(self, reference: np.ndarray) -> dict[str, Any]:
        """Name the model, the sketch, and the validation file."""
        plan = self.context.plan
        validation = self.validation_source()
        return {
            **super().rests_on(reference),
            "sketch": [plan.gradient_width, plan.seed],
            **({"update": "adam"} if self.update == "adam" else {}),
            **({"validation": fingerprint(validation.fingerprint())} if validation else {}),
        }

    def validation_source(self) -> PoolSource | None:
        """The validation file, if one is named."""
        if self.context.plan.validation is None:
            return None
        return source_beside(self.context.data, "validation", self.context.plan.validation)

    def planned_work(self, reference: np.ndarray) -> list[PlannedWork]:
        """What the pass will do: the reference fit, and the reading at each checkpoint."""
        *fit, reading = super().planned_work(reference)
        return [*fit, replace(reading, amount=reading.amount * self.checkpoints)]

    def beside(self, module: LightningModule, key: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Take the gradients of the validation set, and all of them at the earlier checkpoints.

        Notes the columns of each layer, and the learning rate of each checkpoint where there are several.

        Raises:
            UserError: the validation file has no instruction.
        """
        assert isinstance(module, SampleGradients | HeadGradients)
        module.configure_model()  # not loaded where every block was there
        meta: dict[str, Any] = {"edges": module.edges().tolist()}
        validation = self.validation(key)
        plain = module if self.update == "sgd" else self.build("sgd")
        columns = self.validation_columns(plain, validation, key)
        if rank_zero() and validation is not None:
            columns["validation_task"] = validation.data.pool.task[validation.rows].astype(str)
        if self.checkpoints > 1:
            rates = broadcast(lambda: read_json(self.reference_model / RATES)["rates"])
            for number in range(1, len(rates)):
                columns |= self.earlier_columns(number, validation, key)
            meta["rates"] = rates
        return columns, meta

    def validation(self, key: str) -> Validation | None:
        """Return the validation set, where its gradients are no columns of the pool.

        It is that of a file, or the reference split where the pool's are steps of Adam.
        """
        context, given = self.context, self.validation_source()
        data = copy.copy(context.data)
        if given is not None:
            folder = context.out / "work" / f"{self.stage}-pool-{key}"
            data.pool = pool_beside(given, folder, f"validation {context.plan.validation}")
            return Validation(data, np.flatnonzero(data.pool.has_instruction))
        if self.update == "adam":
            rows = np.flatnonzero(data.pool.reference & data.pool.has_instruction)
            return Validation(data, rows)
        return None

    def earlier_columns(
        self, number: int, validation: Validation | None, key: str
    ) -> dict[str, np.ndarray]:
        """Take the gradients of the pool and of the validation set at an earlier checkpoint."""
        data, folder = self.context.data, warm_up_folder(self.reference_model, number)
        reader = self.build(self.update, folder)
        found = self.read(reader, data, self.samples(), f"checkpoint{number}-{key}")
        plain = reader if self.update == "sgd" else self.build("sgd", folder)
        found |= self.validation_columns(plain, validation, f"{key}-checkpoint{number}")
        return {Gradients.at(number, name): values for name, values in found.items()}

    def validation_columns(
        self, reader: SampleGradients | HeadGradients, validation: Validation | None, key: str
    ) -> dict[str, np.ndarray]:
        """Take the gradients of the validation set, where it has columns of its own."""
        if validation is None:
            return {}
        found = self.read(reader, validation.data, validation.rows, f"validation-{key}")
        return {f"validation_{name}": values for name, values in found.items()}

    def read(
        self,
        reader: SampleGradients | HeadGradients,
        data: SelectionDataModule,
        rows: np.ndarray,
        name: str,
    ) -> dict[str, np.ndarray]:
        """Take the gradients of some samples, block by block; the first process returns them.

        Args:
            reader: at one checkpoint.
            data: serves the samples.
            rows: of the pool of `data`, numbers or marks.
            name: of the folder of the blocks.

        Returns:
            `direction` and `length`, memory-mapped; nothing on the other processes.
        """
        context = self.context
        blocks = data.read_as(self.inputs, data.pool.uid[rows], reader.tuned.processor)
        work = context.out / "work" / f"{self.stage}-{name}-{self.loss_blocks}"
        writer = BlockWriter(work, blocks)
        trainer = context.factory.trainer(self.trainer_stage, context.out / "logs" / self.stage)
        writer.fill(trainer, reader, data)
        if not rank_zero():
            return {}
        merged = writer.merge()
        return {column: merged[column] for column in ("direction", "length")}

    @staticmethod
    def estimate(work: Work, speed: Throughput) -> dict[str, float]:
        """Seconds of one GPU: a training step of each sample a checkpoint, the fit if no other signal counts it."""
        read = work.pool * work.warmup_checkpoints
        return {"gradients": (read + fit_of(work)) / speed.training}

    @staticmethod
    def disk(work: Work, hidden: int, encoder: int) -> int:
        """Bytes: a sketch in half precision a checkpoint, twice while its blocks are joined."""
        return 2 * 2 * work.gradient_width * work.pool * work.warmup_checkpoints


def fit_of(work: Work) -> float:
    """Samples that the reference fit reads; 0 where another signal counts it."""
    counted = PairedLoss.name in work.needs
    return 0.0 if counted else work.reference * work.epochs["reference"]
