"""k-center (core-set): no image is far from all selected ones."""

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
    r"""Select, one after another, the image farthest from all selected ones.

    .. math:: u = \arg\max_{i \notin s} \min_{j \in s} \lVert x_i - x_j \rVert_2

    The reference split counts as selected; without one the first image is random, by seed. The
    score is the distance to the nearest selected image: of a selected one when it was picked, of
    the others at the end. Outliers are selected first, so broken or off-topic images of a pool are
    among them.

    Budget: over the whole pool, as published.

    Cost: O(N · budget · D), and O(N · reference · D) where there is a reference split. The features
    of all images are in memory.

    Difference to the paper: the greedy rule alone, without the mixed integer program that refines
    it; the authors report results with the greedy rule as well. Ties by uid.

    Source: Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set
    Approach", ICLR 2018, Algorithm 1.
    """

    needs: ClassVar[tuple[str, ...]] = (Features.name,)

    def select(self, pool: Pool, signals: Signals, budget: int, *, seed: int) -> Selection:
        """Select the farthest image first."""
        features = torch.from_numpy(signals.features(pool, np.arange(len(pool))))  # (N, D)
        budget = min(budget, int((~pool.reference).sum()))
        first = int(np.random.default_rng(seed).integers(len(pool)))
        found = farthest_first(features, budget, torch.from_numpy(pool.reference), first=first)
        picks, score = found.rows.numpy(), found.distance.numpy()
        left = best_first(pool, score, np.setdiff1d(np.arange(len(pool)), picks))
        order = np.concatenate([picks, left])
        return make_selection(pool, order, budget, score, "farthest from all selected before")
