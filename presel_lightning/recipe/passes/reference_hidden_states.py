"""Spectra and last states of every conversation under the reference model."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from lightning import LightningModule

from presel_lightning.loading.datasets import ReadSet, WholeSet
from presel_lightning.recipe.passes.base import ModelPass, Throughput, Work
from presel_lightning.signals import ReferenceHiddenStates, Signal
from presel_lightning.tasks import FineTune
from presel_lightning.tasks.hidden_states import HiddenSpectra


class ReferenceHiddenStatesPass(ModelPass):
    """Tunes the reference model, and reads every sample with it."""

    signal: ClassVar[type[Signal]] = ReferenceHiddenStates
    inputs: ClassVar[type[ReadSet]] = WholeSet

    def reader(self, model: FineTune) -> LightningModule:
        """Build the module of the spectra."""
        return HiddenSpectra(model)

    def model(self) -> FineTune:
        """Build the reference model, without weights."""
        return self.fits.scoring.trained("losses", self.context.out / "models" / "reference")

    def model_key(self, reference: np.ndarray) -> Any:  # noqa: ANN401 - any JSON value
        """Name the weights by the fit that they come from."""
        return self.fits.key("reference", reference, stage="reference", is_arm=False)

    def make(self, reference: np.ndarray) -> None:
        """Fit the reference model, then read every sample."""
        self.fits.run("reference", reference, stage="reference", is_arm=False)
        super().make(reference)

    @staticmethod
    def estimate(work: Work, speed: Throughput) -> dict[str, float]:
        """Seconds of one GPU: a pass over each sample; the fit is counted with the paired losses."""
        return {"reference_hidden_states": work.pool / (2 * speed.losses)}
