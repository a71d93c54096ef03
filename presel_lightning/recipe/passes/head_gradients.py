"""Sketched gradients of the output head, by one forward pass of the reference model."""

from __future__ import annotations

from math import isqrt
from typing import ClassVar

from presel_lightning.recipe.passes.base import Throughput, Work
from presel_lightning.recipe.passes.gradients import GradientsPass, fit_of
from presel_lightning.signals import HeadGradients, Signal
from presel_lightning.tasks.gradients import SampleGradients
from presel_lightning.tasks.head_gradients import HeadGradients as Reader


class HeadGradientsPass(GradientsPass):
    """Tunes the reference model, and reads every sample once."""

    signal: ClassVar[type[Signal]] = HeadGradients
    reader: ClassVar[type[SampleGradients | Reader]] = Reader

    @property
    def update(self) -> str:
        """The head is not trained, so there is no step of Adam on it."""
        return "sgd"

    @property
    def checkpoints(self) -> int:
        """The last alone: no selector sums gradients of the head over checkpoints."""
        return 1

    @staticmethod
    def estimate(work: Work, speed: Throughput) -> dict[str, float]:
        """Seconds of one GPU: a pass over each sample, half of both losses, and the fit."""
        return {"head_gradients": work.pool / (2 * speed.losses) + fit_of(work) / speed.training}

    @staticmethod
    def disk(work: Work, hidden: int, encoder: int) -> int:
        """Bytes: a sketch in half precision, twice while its blocks are joined."""
        return 2 * 2 * isqrt(work.gradient_width) ** 2 * work.pool
