"""k-center (core-set): no image is far from all selected ones."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from torch import Tensor

from presel_lightning.functional.farthest import Farthest, farthest_first
from presel_lightning.selectors.coverage import CoverageSelector
from presel_lightning.signals import Features


class KCenter(CoverageSelector):
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

    Args:
        embedding: `image`, features of the image encoder; or `joint`, image and text of the image-text
            encoder, which needs the instructions of the whole pool. None for `joint` where `two_tower`
            is set, else `image`.

    Raises:
        UserError: `embedding` is unknown.

    Source: Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set
    Approach", ICLR 2018, Algorithm 1.
    """

    needs: ClassVar[tuple[str, ...]] = (Features.name,)
    reason = "farthest from all selected before"

    def pick(self, features: Tensor, count: int, selected: Tensor, seed: int) -> Farthest:
        """Pick the farthest row first."""
        first = int(np.random.default_rng(seed).integers(max(1, len(features))))
        return farthest_first(features, count, selected, first=first)
