"""What makes a signal: the key of its result, the work, and what it will cost."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from lightning import LightningModule

from presel_lightning.errors import UserError
from presel_lightning.loading.blocks import BlockDataModule
from presel_lightning.loading.datasets import ReadSet
from presel_lightning.loading.samplers import Blocks
from presel_lightning.models.checkpoint import Checkpoint
from presel_lightning.recipe.artifacts import records_digest
from presel_lightning.recipe.beside import refuse_empty, source_beside
from presel_lightning.recipe.context import Context
from presel_lightning.recipe.fits import Fits
from presel_lightning.run.fingerprint import digest_lines, fingerprint
from presel_lightning.run.pages import page
from presel_lightning.run.ranges import Positive
from presel_lightning.run.ranks import broadcast, rank_zero
from presel_lightning.run.stages import Facts, devices_of
from presel_lightning.run.time_left import PlannedWork
from presel_lightning.signals import ColumnSignal, Signal
from presel_lightning.tasks import FineTune
from presel_lightning.tasks.block_writer import BlockWriter
from presel_lightning.tasks.reader import Reader


@dataclass(frozen=True)
class Throughput:
    """Samples that one GPU gets through in a second.

    The defaults are the published cost of PreSel with LLaVA-1.5-7B (its cost table; the GPU is not
    named): 76.0 GPU-hours for the fit on all 624,610 to 665,298 samples and 11.0 on 15 % give 2.4.
    Of the 9.0 of the selection, the reference fit then takes 3.6; a pass without backward takes a
    third of a training step, so both losses of a sample two thirds: 2.4; the rest, 3.0, is left
    for the features. They hold for 7 billion parameters and are scaled by the model's size.
    """

    training: Positive = 2.4
    """Fits, with gradient checkpointing."""
    losses: Positive = 3.6
    """The IRS loop, both losses of a sample."""
    features: Positive = 58.0
    """Images through the encoder, decoding included."""

    @classmethod
    def measured(cls, training: float) -> Throughput:
        """From a measured rate of fits alone; losses in their published proportion to it."""
        published = cls()
        return cls(training, training * published.losses / published.training, published.features)

    def scaled(self, parameters: int) -> Throughput:
        """The same GPU with a model of another size; the encoder stays."""
        by = PUBLISHED_PARAMETERS / max(1, parameters)
        return Throughput(self.training * by, self.losses * by, self.features)


PUBLISHED_PARAMETERS = 7.06e9
"""Of LLaVA-1.5-7B, whose cost is published."""


@dataclass(frozen=True)
class Work:
    """How many samples each stage gets.

    Attributes:
        reference: of the reference split; 0 where the selector needs none.
        images: distinct images to embed; 0 where the selector needs no features.
        arms: samples of each fit after the selection, by arm.
        pool: all samples.
        texts: text-only records, in each of these fits.
        needs: signals that the selector asks for.
        epochs: of the stages `reference` and `final`.
        gradient_width: numbers that a gradient is reduced to.
        warmup_checkpoints: checkpoints of the reference fit that gradients are taken at.
    """

    reference: int
    images: int
    arms: dict[str, int]
    pool: int
    texts: int = 0
    needs: tuple[str, ...] = ()
    epochs: dict[str, float] = field(default_factory=lambda: {"reference": 1.0, "final": 1.0})
    gradient_width: int = 0
    warmup_checkpoints: int = 1

    @property
    def earlier_checkpoints(self) -> int:
        """Models that are kept of the reference fit besides its last."""
        tuned = any(Signal.known[name].on_reference for name in self.needs)
        return self.warmup_checkpoints - 1 if tuned else 0

    @property
    def signal_fits(self) -> int:
        """Models that are trained and saved for the signals alone."""
        files = [f for name in self.needs for f in Signal.known[name].artifacts.values()]
        return sum(file.startswith("models/") for kept in files for file in kept)


class Pass(ABC):
    """Makes one signal in a run folder.

    Args:
        context: of the run.
        fits: tunes the models that the signal is computed by.
    """

    signal: ClassVar[type[Signal]]
    known: ClassVar[dict[str, type[Pass]]] = {}
    """The pass of each signal, by the signal's name."""
    reads_validation: ClassVar[bool] = False
    """Whether the pass reads the samples of `validation` beside those of the pool."""

    def __init_subclass__(cls, **options: Any) -> None:  # noqa: ANN401 - as `object` has it
        """Register a pass under the name of its signal."""
        super().__init_subclass__(**options)
        if "signal" in vars(cls):
            Pass.known[cls.signal.name] = cls

    def __init__(self, context: Context, fits: Fits) -> None:
        self.context, self.fits = context, fits

    @property
    def tunes(self) -> bool:
        """Whether the pass tunes the reference model, or others from the same checkpoint."""
        return self.signal.on_reference

    @property
    def stage(self) -> str:
        """The stage that ends with the signal on disk."""
        return list(self.signal.artifacts)[-1]

    @abstractmethod
    def key(self, reference: np.ndarray) -> str:
        """Name the signal by all that it depends on.

        Args:
            reference: uids of the reference split.
        """

    @abstractmethod
    def make(self, reference: np.ndarray) -> None:
        """Make the signal, unless it lies there with this key, and note its key.

        Args:
            reference: uids of the reference split.
        """

    def examine(self) -> None:
        """Examine the validation file before anything is made, where the pass reads one.

        Raises:
            UserError: it does not exist, or has no instruction.
        """
        path = self.context.plan.validation
        if self.reads_validation and path is not None:
            given = source_beside(self.context.data, "validation", path)
            broadcast(lambda: refuse_empty(given, f"validation {path}"))

    def planned_work(self, reference: np.ndarray) -> list[PlannedWork]:
        """What the pass will do, stage by stage: that of its own goes over every sample.

        Args:
            reference: uids of the reference split.
        """
        return [PlannedWork(self.stage, self.stage, len(self.context.data.pool))]

    @staticmethod
    @abstractmethod
    def estimate(work: Work, speed: Throughput) -> dict[str, float]:
        """Seconds of one GPU by stage, for `check`."""

    @staticmethod
    def disk(work: Work, hidden: int, encoder: int) -> int:
        """Bytes that the signal takes while its blocks are merged, for `check`.

        Args:
            work: samples by stage.
            hidden: hidden size of the language model.
            encoder: feature dimension of the image encoder.
        """
        return 0

    def models(self) -> list[Checkpoint]:
        """Checkpoints of image-text models that the pass loads, besides those of fits."""
        return []

    def others(self) -> dict[str, str]:
        """Checkpoints of other models that the pass loads, by the key that names each."""
        return {}

    def made(self, reference: np.ndarray) -> str | None:
        """Key of the signal, if this run has made it, or if it lies there and would be the same.

        A signal of all images that this run has not asked for does not count.
        """
        if self.stage in self.context.keys:
            return self.context.keys[self.stage]
        signal = self.context.signals.of(self.signal)
        if not (self.signal.on_reference and len(reference) and signal.exists()):
            return None
        key, ledger = self.key(reference), self.context.runner.ledger
        return key if ledger.is_done(self.stage, key, [signal.path]) else None

    @property
    def loss_blocks(self) -> str:
        """What the blocks of a loss pass depend on."""
        return f"{self.context.data.block_size}-{self.context.data.block_tokens}"

    def clear(self, pattern: str) -> None:
        """Remove the blocks of a pass that is done, and of those abandoned."""
        for leftover in (self.context.out / "work").glob(pattern):
            shutil.rmtree(leftover, ignore_errors=True)

    def precision(self, stage: str) -> str:
        """Precision that the Trainer of a stage computes in."""
        return str(self.context.factory.trainer_settings(stage)["precision"])

    def numerics(self, module: FineTune) -> list[str]:
        """How a loss pass computes: dtype and quantization of weights, precision, aspect."""
        how = [module.dtype_name, str(module.quantization), self.precision("losses")]
        return [*how, str(module.aspect)]


class InstructionPass(Pass):
    """Makes a signal that a frozen model reads off every instruction of the pool.

    Reading goes block by block through the Trainer's predict loop, divided over the processes. A
    sample without an instruction has no values.
    """

    version: ClassVar[int] = 1
    """Raised when the values of the signal change."""
    trainer_stage: ClassVar[str] = "losses"
    """Stage whose Trainer the pass runs by."""

    @abstractmethod
    def prepare(self, uids: np.ndarray) -> tuple[LightningModule, Blocks]:
        """Build the module whose `predict_step` returns the columns, and serve the samples to it."""

    @abstractmethod
    def rests_on(self, reference: np.ndarray) -> dict[str, Any]:
        """Name the model, how it computes, and how it is shown the samples."""

    def served(self) -> BlockDataModule:
        """Return what serves the samples that `prepare` has laid out."""
        return self.context.data

    def read_samples(self) -> np.ndarray:
        """Mark the samples that are read, (N,) bool: all that have an instruction."""
        has: np.ndarray = self.context.data.pool.has_instruction
        return has

    def planned_work(self, reference: np.ndarray) -> list[PlannedWork]:
        """What the pass will do: read every sample that has an instruction."""
        return [PlannedWork(self.stage, self.stage, int(self.read_samples().sum()))]

    def beside(self, module: LightningModule, key: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Make what lies beside the columns of the pool: further columns, and facts."""
        return {}, {}

    def samples(self) -> np.ndarray:
        """Mark the samples that are read, (N,) bool.

        Raises:
            UserError: there is none.
        """
        has = self.read_samples()
        if not has.any():
            raise UserError(
                f"signal `{self.signal.name}` is computed from instructions, and none of the "
                f"{len(has)} samples has one: take a selector that needs none before they are "
                f"written, such as Medoids ({page('selectors.md')})"
            )
        return has

    def key(self, reference: np.ndarray) -> str:
        """Name the signal by the model, how it computes, and the samples that it reads."""
        pool = self.context.data.pool
        records = records_digest(pool, pool.uid[self.read_samples()])
        own = {self.signal.name: self.version, **self.rests_on(reference)}
        return fingerprint({**own, "pool": digest_lines(pool.uid), "records": records})

    def make(self, reference: np.ndarray) -> None:
        """Read every sample whose block is not there yet."""
        context, data = self.context, self.context.data
        has = self.samples()
        key = context.keys[self.stage] = broadcast(lambda: self.key(reference))
        signal = context.signals.of(self.signal)
        assert isinstance(signal, ColumnSignal)

        def work() -> Facts:
            logs = context.out / "logs" / self.stage
            trainer = context.factory.trainer(self.trainer_stage, logs)
            devices = context.runner.runs_on(devices_of(trainer))
            folder = context.out / "work" / f"{self.stage}-{key}-{self.loss_blocks}"
            module, blocks = self.prepare(data.pool.uid[has])
            writer = BlockWriter(folder, blocks)
            writer.fill(trainer, module, self.served())
            more, meta = self.beside(module, key)
            if rank_zero():
                columns = {**writer.merge(), **more}
                signal.write(data.pool, has, columns, {"key": key, **meta}, move=True)
                self.clear(f"{self.stage}-*")
            without = int((~has).sum())
            facts = {"samples": int(has.sum()), **devices}
            return {**facts, **({"without_instruction": without} if without else {})}

        context.runner.stage(self.stage, key, [signal.path], work, together=True)


class ModelPass(InstructionPass):
    """Makes a signal that the pre-instruction model reads off every instruction of the pool."""

    inputs: ClassVar[type[ReadSet]]
    """How samples are laid out for the model."""

    reader: ClassVar[type[Reader]]
    """Module whose `predict_step` returns the columns of a block."""

    def model(self) -> FineTune:
        """Build the model that reads, without weights."""
        return self.context.factory.model("losses", tune="none")

    def models(self) -> list[Checkpoint]:
        """Checkpoints of image-text models that the pass loads."""
        return [self.context.factory.model("losses", tune="none").origin]

    def model_key(self, reference: np.ndarray) -> Any:  # noqa: ANN401 - any JSON value
        """Name the weights of the model."""
        return self.model().fingerprint()["checkpoint"]

    def prepare(self, uids: np.ndarray) -> tuple[LightningModule, Blocks]:
        """Build the reader, and lay the samples out for it."""
        model = self.model()
        return self.reader(model), self.context.data.read_as(self.inputs, uids, model.processor)

    def rests_on(self, reference: np.ndarray) -> dict[str, Any]:
        """Name the model, its number formats, and how conversations are written."""
        data = self.context.data
        return {
            "model": self.model_key(reference),
            "how": self.numerics(self.context.factory.model("losses", tune="none")),
            "data": [data.template, data.max_length, data.pixels],
        }


class ReferencePass(ModelPass):
    """Makes a signal that the reference model reads off instructions.

    The reference model is tuned for it where it does not lie there; its cost is counted with the
    paired losses, which selectors that read such a signal need beside it.
    """

    def model(self) -> FineTune:
        """Build the reference model, without weights."""
        return self.fits.scoring.trained("losses", self.context.out / "models" / "reference")

    def model_key(self, reference: np.ndarray) -> Any:  # noqa: ANN401 - any JSON value
        """Name the weights by the fit that they come from."""
        return self.fits.key("reference", reference, stage="reference", is_arm=False)

    def planned_work(self, reference: np.ndarray) -> list[PlannedWork]:
        """What the pass will do: the reference fit, where no other pass makes it, and the reading."""
        fit = self.fits.planned_work("reference", len(reference), stage="reference", is_arm=False)
        return [*fit, *super().planned_work(reference)]

    def make(self, reference: np.ndarray) -> None:
        """Fit the reference model, then read every sample."""
        self.fits.run("reference", reference, stage="reference", is_arm=False)
        super().make(reference)
