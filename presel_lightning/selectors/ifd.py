"""IFD (NAACL 2024): instructions that make their answer only a little easier."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from presel_lightning.data.pool import Pool
from presel_lightning.selectors.by_score import ScoreSelector
from presel_lightning.signals import Signals, TokenLoss


class IFD(ScoreSelector):
    r"""Select the highest instruction-following difficulties below 1.

    .. math:: \mathrm{IFD}_i = L_{R|Q,I} \,/\, L_{R|I}

    A ratio of 1 or more says that the question does not help: such samples count as misaligned and
    come after all others, the lowest ratio first.

    Needs the instructions of the whole pool. Budget: over the whole pool; tasks are ignored.

    Differences to the paper: it has text only, L(R|Q) / L(R); here both losses see the image, so
    that the score is the IRS of every sample of the pool; the model is the pre-instruction one, where
    the paper tunes it on a few samples of each cluster first.

    Source: Li et al., "From Quantity to Quality: Boosting LLM Performance with Self-Guided Data
    Selection for Instruction Tuning", NAACL 2024, Eq. 4.
    """

    needs: ClassVar[tuple[str, ...]] = (TokenLoss.name,)
    reason = "instruction-following difficulty"

    def score(self, pool: Pool, signals: Signals, *, seed: int) -> np.ndarray:
        """Compute the ratio, its sign reversed from 1 on; the seed is not used."""
        rows = np.arange(len(pool))
        with_question = signals.token_loss(pool, rows, "loss_with_question").astype(np.float64)
        without = signals.token_loss(pool, rows, "loss_without_question").astype(np.float64)
        ratio = np.full(len(pool), np.nan)
        np.divide(with_question, without, out=ratio, where=without > 0)
        return np.where(ratio < 1, ratio, -ratio)
