"""Losses of the reference samples without their image."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from presel_lightning.loading.datasets import ReadSet, TextSet
from presel_lightning.recipe.passes.base import ReferencePass, Throughput, Work
from presel_lightning.signals import Signal, TextLoss
from presel_lightning.tasks.reader import Reader
from presel_lightning.tasks.token_loss import TextLosses


class TextLossPass(ReferencePass):
    """Reads the text of every reference sample with the reference model; no image is decoded."""

    signal: ClassVar[type[Signal]] = TextLoss
    inputs: ClassVar[type[ReadSet]] = TextSet
    reader: ClassVar[type[Reader]] = TextLosses

    def read_samples(self) -> np.ndarray:
        """Mark the reference split, (N,) bool."""
        reference: np.ndarray = self.context.data.pool.reference
        return reference

    @staticmethod
    def estimate(work: Work, speed: Throughput) -> dict[str, float]:
        """Seconds of one GPU; the text alone takes about a quarter of both losses."""
        return {"text_loss": work.reference / (4 * speed.losses)}
