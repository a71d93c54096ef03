"""ZCore (2024): images that cover the feature space with little redundancy."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from presel_lightning.data.pool import Pool
from presel_lightning.functional.zcore import draw_points, zcore
from presel_lightning.records import Selection
from presel_lightning.run.ranges import Count, Draws
from presel_lightning.selectors.base import Selector, best_first, make_selection
from presel_lightning.signals import Features, Signals


class ZCore(Selector):
    r"""Select the images that are nearest to random points of the feature space and have few neighbors.

    A point is sampled in two random dimensions from a triangular distribution between minimum,
    median and maximum. The image nearest to it gains 1; its nearest neighbors lose 1 in total,

    .. math:: w_j \propto d_j^{-4}

    and the final scores are min-max scaled to [0, 1].

    Budget: over the whole pool, as published; the reference split is scored with all others and
    then excluded.

    Cost: per sample O(sqrt(neighbors · N)) rows, for at most a million samples; two copies of the
    features are in memory.

    Differences to the published code: scores start at 0, not at a random number between 0 and 1,
    which can outweigh a sample, so that equal images tie and ties go by uid; rows at distance 0
    share the loss (in the published code one of them takes it).

    Args:
        draws: number of points; by default 10 per image, at most a million.
        neighbors: images that lose for each point.

    Source: Griffin, Marks, Corso, "Zero-Shot Coreset Selection via Iterative Subspace Sampling",
    arXiv 2411.15349.
    """

    needs: ClassVar[tuple[str, ...]] = (Features.name,)

    def __init__(self, draws: Draws | None = None, neighbors: Count = 1000) -> None:
        self.draws = draws
        self.neighbors = neighbors

    def select(self, pool: Pool, signals: Signals, budget: int, *, seed: int) -> Selection:
        """Sample points by seed and select the highest scores."""
        features = torch.from_numpy(signals.features(pool, np.arange(len(pool))))  # (N, D)
        draws = min(10 * len(pool), 1_000_000) if self.draws is None else self.draws
        score = zcore(features, draw_points(features, draws, seed), self.neighbors).numpy()
        order = best_first(pool, score)
        return make_selection(pool, order, budget, score, "covers what others do not")
