"""Spectra and last states of every conversation under the reference model."""

from __future__ import annotations

from typing import ClassVar

from lightning import LightningModule

from presel_lightning.loading.datasets import ReadSet, WholeSet
from presel_lightning.recipe.passes.base import ReferencePass, Throughput, Work
from presel_lightning.signals import ReferenceHiddenStates, Signal
from presel_lightning.tasks import FineTune
from presel_lightning.tasks.hidden_states import HiddenSpectra


class ReferenceHiddenStatesPass(ReferencePass):
    """Tunes the reference model, and reads every sample with it."""

    signal: ClassVar[type[Signal]] = ReferenceHiddenStates
    inputs: ClassVar[type[ReadSet]] = WholeSet

    def reader(self, model: FineTune) -> LightningModule:
        """Build the module of the spectra."""
        return HiddenSpectra(model)

    @staticmethod
    def estimate(work: Work, speed: Throughput) -> dict[str, float]:
        """Seconds of one GPU: a pass over each sample; the fit is counted with the paired losses."""
        return {"reference_hidden_states": work.pool / (2 * speed.losses)}
