"""What makes a signal: the key of its result, the work, and what it will cost."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from presel_lightning.recipe.context import Context
from presel_lightning.recipe.fits import Fits
from presel_lightning.run.ranges import Positive
from presel_lightning.signals import Signal
from presel_lightning.tasks import FineTune


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
    """

    reference: int
    images: int
    arms: dict[str, int]
    pool: int
    texts: int = 0
    needs: tuple[str, ...] = ()
    epochs: dict[str, float] = field(default_factory=lambda: {"reference": 1.0, "final": 1.0})

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

    def __init_subclass__(cls, **options: Any) -> None:  # noqa: ANN401 - as `object` has it
        """Register a pass under the name of its signal."""
        super().__init_subclass__(**options)
        if "signal" in vars(cls):
            Pass.known[cls.signal.name] = cls

    def __init__(self, context: Context, fits: Fits) -> None:
        self.context, self.fits = context, fits

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

    @staticmethod
    @abstractmethod
    def estimate(work: Work, speed: Throughput) -> dict[str, float]:
        """Seconds of one GPU by stage, for `check`."""

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
