"""Whether the model finds every answer right, with its question and without."""

from __future__ import annotations

from typing import ClassVar

from presel_lightning.loading.datasets import ReadSet, ValiditySet
from presel_lightning.recipe.passes.base import ModelPass, Throughput, Work
from presel_lightning.signals import AnswerValidity, Signal
from presel_lightning.tasks.answer_validity import Validity
from presel_lightning.tasks.reader import Reader


class AnswerValidityPass(ModelPass):
    """Asks two questions about every sample, and reads the first token of each reply."""

    signal: ClassVar[type[Signal]] = AnswerValidity
    inputs: ClassVar[type[ReadSet]] = ValiditySet
    reader: ClassVar[type[Reader]] = Validity

    @staticmethod
    def estimate(work: Work, speed: Throughput) -> dict[str, float]:
        """Seconds of one GPU: two inputs of each sample, as both losses have."""
        return {"answer_validity": work.pool / speed.losses}
