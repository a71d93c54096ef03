"""ScalSelect (2026): the samples that span the space of what the model looks at."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from presel_lightning.data.pool import Pool
from presel_lightning.functional.leverage import leverage_scores
from presel_lightning.run.ranges import ProperFraction
from presel_lightning.selectors.by_score import ScoreSelector
from presel_lightning.signals import Signals, VisualTokens


class ScalSelect(ScoreSelector):
    r"""Select the highest leverage scores of the visual tokens that the text attends to.

    Of a sample, the mean first-layer state of the visual tokens that hold 90 % of the attention of its
    text; of the pool, centered, standardized and normalized, with left singular vectors U:

    .. math:: \pi_i = \lVert U_k[i] \rVert^2

    with k the dimensions that hold 90 % of the energy.

    Needs the instructions of the whole pool. Budget: over the whole pool; tasks are ignored. Linear in
    the number of samples.

    Differences to the published code: it decomposes the whole table at once, here the Gram matrix of
    its columns is summed block by block.

    Args:
        energy: fraction of the energy that the dimensions hold.

    Source: ScalSelect, arXiv 2602.11636.
    """

    needs: ClassVar[tuple[str, ...]] = (VisualTokens.name,)
    reason = "spans the space of what the text attends to"

    def __init__(self, energy: ProperFraction = 0.9) -> None:
        self.energy = energy

    def score(self, pool: Pool, signals: Signals, *, seed: int) -> np.ndarray:
        """Compute the leverage scores; the seed is not used."""
        everything = np.arange(len(pool))
        finite = signals.visual_tokens(pool, everything, "finite") == 1
        score = np.full(len(pool), np.nan)
        rows = np.flatnonzero(finite)
        if len(rows):
            signal = signals.of(VisualTokens)
            places = signal.places(pool, rows)
            found = leverage_scores(signal.column("features"), places, self.energy)
            score[rows] = found.round(12)
        return score
