"""EL2N (NeurIPS 2021): the answers that the model gets most wrong."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from presel_lightning.data.pool import Pool
from presel_lightning.selectors.by_score import Keep, ScoreSelector, ordered_by
from presel_lightning.signals import Signals, TokenLoss


class EL2N(ScoreSelector):
    r"""Select by the mean error norm of the answer tokens, given question and image.

    .. math:: \mathrm{EL2N}_i = \frac{1}{n_i} \sum_t \lVert \mathrm{softmax}(z_{it}) -
        \mathrm{onehot}(r_{it}) \rVert_2

    Needs the instructions of the whole pool. Budget: over the whole pool; tasks are ignored.

    Differences to the paper: it scores images of a classifier early in training, averaged over
    several models; for instructions the mean over answer tokens is COINCIDE's, and the model is the
    pre-instruction one.

    Args:
        keep: `highest` norms (the paper), `middle` or `lowest` first.

    Raises:
        UserError: `keep` is unknown.

    Source: Paul, Ganguli, Dziugaite, "Deep Learning on a Data Diet: Finding Important Examples
    Early in Training", NeurIPS 2021, Definition 2.
    """

    needs: ClassVar[tuple[str, ...]] = (TokenLoss.name,)
    reason = "error norm"

    def __init__(self, keep: Keep = "highest") -> None:
        ordered_by(np.empty(0), keep, "selector.init_args.keep")
        self.keep = keep

    def score(self, pool: Pool, signals: Signals, *, seed: int) -> np.ndarray:
        """Order the error norms; the seed is not used."""
        norm = signals.token_loss(pool, np.arange(len(pool)), "error_norm")
        return ordered_by(norm, self.keep, "selector.init_args.keep")
