"""Sketched gradients of every sample, and of those of a validation file, at the reference model."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import numpy as np
from lightning import LightningModule

from presel_lightning.callbacks.save_moments import MOMENTS
from presel_lightning.data.source import PoolSource
from presel_lightning.loading.datasets import ReadSet, WholeSet
from presel_lightning.loading.samplers import Blocks
from presel_lightning.recipe.beside import pool_beside, source_beside
from presel_lightning.recipe.passes.base import ReferencePass, Throughput, Work
from presel_lightning.run.fingerprint import fingerprint
from presel_lightning.run.ranks import rank_zero
from presel_lightning.signals import Gradients, PairedLoss, Signal
from presel_lightning.tasks.block_writer import BlockWriter
from presel_lightning.tasks.gradients import SampleGradients
from presel_lightning.tasks.head_gradients import HeadGradients


class GradientsPass(ReferencePass):
    """Tunes the reference model, and takes the gradients of its adapters for every sample."""

    signal: ClassVar[type[Signal]] = Gradients
    inputs: ClassVar[type[ReadSet]] = WholeSet
    reader: ClassVar[type[SampleGradients | HeadGradients]] = SampleGradients

    @property
    def update(self) -> str:
        """What is taken of the samples of the pool: the gradient (`sgd`), or the step of `adam` on it."""
        return self.context.plan.gradient_update

    def prepare(self, uids: np.ndarray) -> tuple[LightningModule, Blocks]:
        """Build the reader, and lay the samples out for it."""
        reader = self.build(self.update)
        return reader, self.context.data.read_as(self.inputs, uids, reader.tuned.processor)

    def build(self, update: str) -> SampleGradients | HeadGradients:
        """Build the reader of gradients as they are (`sgd`), or of the steps of `adam` on them."""
        plan = self.context.plan
        moments = self.context.out / "models" / "reference" / MOMENTS
        given = {"moments": moments} if update == "adam" else {}
        return self.reader(self.model(), plan.gradient_width, plan.seed, **given)

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

    def beside(self, module: LightningModule, key: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Take the gradients of the validation set that are not columns of the pool.

        Those of a file, and of the reference split where the pool's are steps of Adam. Notes the columns
        of each layer, too.

        Raises:
            UserError: the validation file has no instruction.
        """
        assert isinstance(module, SampleGradients | HeadGradients)
        module.configure_model()  # not loaded where every block was there
        meta = {"edges": module.edges().tolist()}
        context, given = self.context, self.validation_source()
        data = copy.copy(context.data)
        if given is not None:
            folder = context.out / "work" / f"{self.stage}-pool-{key}"
            data.pool = pool_beside(given, folder, f"validation {context.plan.validation}")
            rows = np.flatnonzero(data.pool.has_instruction)
        elif self.update == "adam":
            rows = np.flatnonzero(data.pool.reference & data.pool.has_instruction)
        else:
            return {}, meta
        reader = module if self.update == "sgd" else self.build("sgd")
        blocks = data.read_as(self.inputs, data.pool.uid[rows], reader.tuned.processor)
        work = context.out / "work" / f"{self.stage}-validation-{key}-{self.loss_blocks}"
        writer = BlockWriter(work, blocks)
        trainer = context.factory.trainer(self.trainer_stage, context.out / "logs" / self.stage)
        writer.fill(trainer, reader, data)
        if not rank_zero():
            return {}, meta
        merged = writer.merge()
        columns = {f"validation_{name}": merged[name] for name in ("direction", "length")}
        return {**columns, "validation_task": data.pool.task[rows].astype(str)}, meta

    @staticmethod
    def estimate(work: Work, speed: Throughput) -> dict[str, float]:
        """Seconds of one GPU: as a training step of each sample, and the fit where no other signal counts it."""
        return {"gradients": (work.pool + fit_of(work)) / speed.training}

    @staticmethod
    def disk(work: Work, hidden: int, encoder: int) -> int:
        """Bytes: a sketch in half precision, twice while its blocks are joined."""
        return 2 * 2 * work.gradient_width * work.pool


def fit_of(work: Work) -> float:
    """Samples that the reference fit reads; 0 where another signal counts it."""
    counted = PairedLoss.name in work.needs
    return 0.0 if counted else work.reference * work.epochs["reference"]
