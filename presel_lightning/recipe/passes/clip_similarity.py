"""Images and texts compared by an image-text encoder."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from lightning import LightningModule

from presel_lightning.loading.samplers import Blocks
from presel_lightning.models.image_text import load_readers
from presel_lightning.recipe.passes.base import InstructionPass, Throughput, Work
from presel_lightning.signals import ClipSimilarity, Signal


class ClipSimilarityPass(InstructionPass):
    """Encodes the image and the conversation of every sample; several images have no similarity."""

    signal: ClassVar[type[Signal]] = ClipSimilarity
    trainer_stage: ClassVar[str] = "similarity"

    def prepare(self, uids: np.ndarray) -> tuple[LightningModule, Blocks]:
        """Build the encoder, and serve images with their texts."""
        module = self.context.factory.similarity()
        return module, self.context.data.match(uids, *load_readers(module.checkpoint))

    def read_samples(self) -> np.ndarray:
        """Mark the samples with an instruction about one image, (N,) bool."""
        pool = self.context.data.pool
        has = super().read_samples().copy()
        has[pool.rows(list(pool.several))] = False
        return has

    def rests_on(self, reference: np.ndarray) -> dict[str, Any]:
        """Name the encoder, its number format, and how images are read."""
        encoder = self.context.factory.similarity().fingerprint()
        return {"encoder": encoder, "how": [self.precision("similarity"), self.context.data.pixels]}

    def others(self) -> dict[str, str]:
        """The encoder."""
        return {"stages.similarity.model.checkpoint": self.context.factory.similarity().checkpoint}

    @staticmethod
    def estimate(work: Work, speed: Throughput) -> dict[str, float]:
        """Seconds of one GPU; an image tower of CLIP's size takes about three times DINOv2-base."""
        return {"clip_similarity": 3 * work.pool / speed.features}
