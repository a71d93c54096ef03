"""Perplexity (Marion et al. 2023): the middle of the perplexities of the pool."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from presel_lightning.data.pool import Pool
from presel_lightning.selectors.by_score import Keep, ScoreSelector, ordered_by
from presel_lightning.signals import Signals, TokenLoss


class Perplexity(ScoreSelector):
    r"""Select by the perplexity of the answer, given question and image.

    .. math:: \mathrm{PPL}_i = \exp\Bigl(\frac{1}{n_i} \sum_t -\log p(r_{it} \mid r_{i,<t}, Q, I)
        \Bigr)

    Needs the instructions of the whole pool. Budget: over the whole pool; tasks are ignored.

    Differences to the paper: it prunes text for pretraining with a trained reference model, and
    found the middle of the distribution best; here the loss is that of the answer tokens under the
    pre-instruction model. The order is that of the mean loss, whose exponential it is.

    Args:
        keep: `middle` (the paper's best), `highest` or `lowest` perplexities first.

    Raises:
        UserError: `keep` is unknown.

    Source: Marion et al., "When Less is More: Investigating Data Pruning for Pretraining LLMs at
    Scale", 2023, section 3.1.
    """

    needs: ClassVar[tuple[str, ...]] = (TokenLoss.name,)
    reason = "perplexity"

    def __init__(self, keep: Keep = "middle") -> None:
        ordered_by(np.empty(0), keep, "selector.init_args.keep")
        self.keep = keep

    def score(self, pool: Pool, signals: Signals, *, seed: int) -> np.ndarray:
        """Order the mean losses; the seed is not used."""
        loss = signals.token_loss(pool, np.arange(len(pool)), "loss_with_question")
        return ordered_by(loss, self.keep, "selector.init_args.keep")
