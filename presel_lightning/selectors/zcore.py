"""ZCore (2024): images that cover the feature space and are not covered by others."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from presel_lightning.data.pool import Pool
from presel_lightning.functional.zcore import draw_points, zcore
from presel_lightning.records import Selection
from presel_lightning.selectors.base import Selector, best_first, make_selection
from presel_lightning.signals import Features, Signals


class ZCore(Selector):
    r"""Keep the images that are nearest to random points of the feature space, and alone there.

    A point is drawn in two random dimensions, triangular between minimum, median and maximum. The
    image nearest to it gains 1; its nearest neighbours lose, together 1,

    .. math:: w_j \propto d_j^{-4}

    and at the end scores are brought to [0, 1].

    Budget: over the whole pool, as published; the reference split gains and loses as all others
    do, and is then left out.

    Cost: O(draws) looks at a strip of the pool that grows as sqrt(neighbors · N), for at most a
    million draws; the features lie in memory twice.

    What differs from the authors', and why: scores start at 0, not at a random number between 0 and
    1, which can outweigh a draw, so that equal images tie and ties go by uid; rows at distance 0
    share the loss (theirs gives it to one of them).

    Args:
        draws: points; 10 for each image, but at most a million, where not given.
        neighbors: images that lose for each point.

    Source: Griffin, Marks, Corso, "Zero-Shot Coreset Selection via Iterative Subspace Sampling",
    arXiv 2411.15349.
    """

    needs: ClassVar[tuple[str, ...]] = (Features.name,)

    def __init__(self, draws: int | None = None, neighbors: int = 1000) -> None:
        self.draws = draws
        self.neighbors = neighbors

    def select(self, pool: Pool, signals: Signals, budget: int, *, seed: int) -> Selection:
        """Draw points by seed and keep the highest scores."""
        features = torch.from_numpy(signals.features(pool, np.arange(len(pool))))  # (N, D)
        draws = min(10 * len(pool), 1_000_000) if self.draws is None else self.draws
        score = zcore(features, draw_points(features, draws, seed), self.neighbors).numpy()
        order = best_first(pool, score)
        return make_selection(pool, order, budget, score, "covers what others do not")
