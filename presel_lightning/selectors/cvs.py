"""CVS (2026): answers that only the question makes valid."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from presel_lightning.data.pool import Pool
from presel_lightning.selectors.by_score import ScoreSelector
from presel_lightning.signals import AnswerValidity, Signals


class Cvs(ScoreSelector):
    r"""Select the samples whose question raises the model's belief in the answer most.

    .. math:: \mathrm{score}_i = P(\mathrm{yes} \mid I, Q, R) - P(\mathrm{yes} \mid I, R)

    the probability that the frozen model answers yes, of yes and no, when it is asked whether the answer
    is right.

    Needs the instructions of the whole pool. Budget: over the whole pool; tasks are ignored.

    Differences to the paper: no published code was available, so the wording of the question to
    the model is ours; the model is the pre-instruction one, which should be able to answer questions:
    give one that is (`stages.losses.model.checkpoint`) where it is not.

    Source: CVS, arXiv 2603.09715.
    """

    needs: ClassVar[tuple[str, ...]] = (AnswerValidity.name,)
    reason = "the question makes the answer valid"

    def score(self, pool: Pool, signals: Signals, *, seed: int) -> np.ndarray:
        """Subtract the probability without the question; the seed is not used."""
        rows = np.arange(len(pool))
        with_question, without = (
            signals.answer_validity(pool, rows, name).astype(np.float64)
            for name in ("with_question", "without_question")
        )
        difference: np.ndarray = with_question - without
        return difference
