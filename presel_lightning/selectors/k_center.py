"""k-center: no image far from all chosen ones."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from presel_lightning.data.pool import Pool
from presel_lightning.functional.farthest import farthest_first
from presel_lightning.records import Selection
from presel_lightning.selectors.base import Selector, best_first, make_selection
from presel_lightning.signals import Features, Signals


class KCenter(Selector):
    r"""Take the image farthest from all chosen ones, again and again.

    .. math:: u = \arg\max_{i \notin s} \min_{j \in s} \lVert x_i - x_j \rVert_2

    The reference split is chosen already; without one the first image is drawn by seed. The score
    is the distance to the nearest chosen image: of a chosen one when it was taken, of the others
    at the end. Outliers come first: a pool with broken or foreign images gives these away early.

    Budget: over the whole pool, as published.

    Cost: O(N · budget · D), and O(N · reference · D) where there is one. A running minimum is kept;
    all images' features are in memory.

    What differs: the greedy rule alone, without the paper's mixed integer program that refines it;
    its authors report results with the greedy rule as well. Ties by uid.

    Source: Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set
    Approach", ICLR 2018, Algorithm 1.
    """

    needs: ClassVar[tuple[str, ...]] = (Features.name,)

    def select(self, pool: Pool, signals: Signals, budget: int, *, seed: int) -> Selection:
        """Farthest image first."""
        features = torch.from_numpy(signals.features(pool, np.arange(len(pool))))  # (N, D)
        budget = min(budget, int((~pool.reference).sum()))
        first = int(np.random.default_rng(seed).integers(len(pool)))
        found = farthest_first(features, budget, torch.from_numpy(pool.reference), first=first)
        picks, score = found.rows.numpy(), found.distance.numpy()
        left = best_first(pool, score, np.setdiff1d(np.arange(len(pool)), picks))
        order = np.concatenate([picks, left])
        return make_selection(pool, order, budget, score, "farthest from all chosen before")
