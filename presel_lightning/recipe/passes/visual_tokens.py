"""Visual tokens that the text attends to, for every conversation."""

from __future__ import annotations

from typing import ClassVar

from presel_lightning.loading.datasets import ReadSet, WholeSet
from presel_lightning.recipe.passes.base import ModelPass, Throughput, Work
from presel_lightning.signals import Signal, VisualTokens
from presel_lightning.tasks.reader import Reader
from presel_lightning.tasks.visual_tokens import AttendedTokens


class VisualTokensPass(ModelPass):
    """Reads every sample up to the first layer of the language model."""

    signal: ClassVar[type[Signal]] = VisualTokens
    inputs: ClassVar[type[ReadSet]] = WholeSet
    reader: ClassVar[type[Reader]] = AttendedTokens

    @staticmethod
    def estimate(work: Work, speed: Throughput) -> dict[str, float]:
        """Seconds of one GPU: the vision tower and one layer, about a tenth of both losses."""
        return {"visual_tokens": work.pool / (10 * speed.losses)}

    @staticmethod
    def disk(work: Work, hidden: int, encoder: int) -> int:
        """Bytes of the means, float32, in blocks and merged."""
        return 2 * 4 * hidden * work.pool
