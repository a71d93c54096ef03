"""Activations of five layers for every conversation."""

from __future__ import annotations

from typing import ClassVar

from presel_lightning.loading.datasets import ReadSet, WholeSet
from presel_lightning.recipe.passes.base import ModelPass, Throughput, Work
from presel_lightning.signals import LayerFeatures, Signal
from presel_lightning.tasks.layer_features import LayerActivations
from presel_lightning.tasks.reader import Reader


class LayerFeaturesPass(ModelPass):
    """Reads every sample once, image, questions and answers."""

    signal: ClassVar[type[Signal]] = LayerFeatures
    inputs: ClassVar[type[ReadSet]] = WholeSet
    reader: ClassVar[type[Reader]] = LayerActivations

    @staticmethod
    def estimate(work: Work, speed: Throughput) -> dict[str, float]:
        """Seconds of one GPU: a pass over each sample, half of both losses."""
        return {"layer_features": work.pool / (2 * speed.losses)}

    @staticmethod
    def disk(work: Work, hidden: int, encoder: int) -> int:
        """Bytes of the means over image and text at five layers, float16, in blocks and merged."""
        return 2 * 2 * (2 * 5 * hidden) * work.pool
