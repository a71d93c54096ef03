"""How valid the pre-instruction model finds every answer, with its question and without."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from presel_lightning.signals.base import ColumnSignal


class AnswerValidity(ColumnSignal):
    """`answer_validity/`: columns over the samples of the pool that have an instruction.

    `with_question` and `without_question`: probability of yes, of yes and no, when the model is
    asked whether the answer is right.
    """

    name: ClassVar[str] = "answer_validity"
    artifacts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "answer_validity": ("signals/answer_validity",)
    }
