"""Spectra and last states of every conversation under the pre-instruction model."""

from __future__ import annotations

from typing import ClassVar

from presel_lightning.loading.datasets import ReadSet, WholeSet
from presel_lightning.recipe.passes.base import ModelPass, Throughput, Work
from presel_lightning.signals import HiddenStates, Signal
from presel_lightning.tasks.hidden_states import HiddenSpectra
from presel_lightning.tasks.reader import Reader


class HiddenStatesPass(ModelPass):
    """Reads every sample once, image, questions and answers."""

    signal: ClassVar[type[Signal]] = HiddenStates
    inputs: ClassVar[type[ReadSet]] = WholeSet
    reader: ClassVar[type[Reader]] = HiddenSpectra

    @staticmethod
    def estimate(work: Work, speed: Throughput) -> dict[str, float]:
        """Seconds of one GPU: a pass over each sample, half of both losses."""
        return {"hidden_states": work.pool / (2 * speed.losses)}

    @staticmethod
    def disk(work: Work, hidden: int, encoder: int) -> int:
        """Bytes of the last states, float32, in blocks and merged."""
        return 2 * 4 * hidden * work.pool
