"""Losses of every answer: with question and image, without the question, without the image."""

from __future__ import annotations

from typing import ClassVar

from presel_lightning.loading.datasets import BranchSet, ReadSet
from presel_lightning.recipe.passes.base import ModelPass, Throughput, Work
from presel_lightning.signals import Signal, TokenLoss
from presel_lightning.tasks.reader import Reader
from presel_lightning.tasks.token_loss import TokenLosses


class TokenLossPass(ModelPass):
    """Reads every sample as the IRS loop does, and its text once more without the image."""

    signal: ClassVar[type[Signal]] = TokenLoss
    inputs: ClassVar[type[ReadSet]] = BranchSet
    reader: ClassVar[type[Reader]] = TokenLosses

    @staticmethod
    def estimate(work: Work, speed: Throughput) -> dict[str, float]:
        """Seconds of one GPU; the text alone takes about a quarter of both other inputs."""
        return {"token_loss": 1.25 * work.pool / speed.losses}
