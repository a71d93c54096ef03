"""Spectra and last states of every conversation under the reference model."""

from __future__ import annotations

from typing import ClassVar

from presel_lightning.loading.datasets import ReadSet, WholeSet
from presel_lightning.recipe.passes.base import ReferencePass, Throughput, Work
from presel_lightning.signals import ReferenceHiddenStates, Signal
from presel_lightning.tasks.hidden_states import HiddenSpectra
from presel_lightning.tasks.reader import Reader


class ReferenceHiddenStatesPass(ReferencePass):
    """Tunes the reference model, and reads every sample with it."""

    signal: ClassVar[type[Signal]] = ReferenceHiddenStates
    inputs: ClassVar[type[ReadSet]] = WholeSet
    reader: ClassVar[type[Reader]] = HiddenSpectra

    @staticmethod
    def estimate(work: Work, speed: Throughput) -> dict[str, float]:
        """Seconds of one GPU: a pass over each sample; the fit is counted with the paired losses."""
        return {"reference_hidden_states": work.pool / (2 * speed.losses)}

    @staticmethod
    def disk(work: Work, hidden: int, encoder: int) -> int:
        """Bytes of the last states, float32, in blocks and merged."""
        return 2 * 4 * hidden * work.pool
