"""For-Value (2025): influence on the validation loss through the output head, by forward passes."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from presel_lightning.data.pool import Pool
from presel_lightning.functional.influence import mean_gradient, utilities
from presel_lightning.selectors.by_score import ScoreSelector
from presel_lightning.selectors.gradients import read_gradients
from presel_lightning.signals import HeadGradients, Signals


class ForValue(ScoreSelector):
    r"""Select the highest inner product with the validation set's gradients of the output head.

    .. math:: \mathrm{value}_i = \frac{1}{|V|} \sum_{v \in V} \sum_{t,s}
        \langle e_{it}, e_{vs} \rangle \langle h_{it}, h_{vs} \rangle

    with h the last hidden states and e the errors (softmax minus one-hot) of the answer tokens: no
    backward pass is needed.

    Needs the instructions of the whole pool. Budget: over the whole pool; tasks are ignored.

    Differences to the paper: sums are means over the tokens of each sample, so that a long answer
    does not count for its length; both factors are projected, so that a sample is a row on disk; the
    model is the reference model.

    Source: "For-Value: Efficient Forward-Only Data Valuation", arXiv 2508.10180.
    """

    needs: ClassVar[tuple[str, ...]] = (HeadGradients.name,)
    reason = "lowers the validation loss through the output head"

    def score(self, pool: Pool, signals: Signals, *, seed: int) -> np.ndarray:
        """Compute the values; the seed is not used."""
        read = read_gradients(pool, signals, HeadGradients)
        return read.scores(pool, utilities(read.gradients, mean_gradient(read.validation)))
