"""SemDeDup (2023): semantic deduplication inside clusters."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from presel_lightning.data.pool import Pool
from presel_lightning.functional.centrality import members_by_label
from presel_lightning.functional.duplicates import similarity_to_earlier
from presel_lightning.functional.kmeans import kmeans
from presel_lightning.records import Selection
from presel_lightning.run.ranges import Count
from presel_lightning.selectors.base import Selector, best_first, make_selection
from presel_lightning.signals import Features, Signals


class SemDeDup(Selector):
    r"""Exclude the images that are most similar to an earlier one of their cluster.

    .. math:: \mathrm{keep}(i) \iff \max_{j < i} \cos(x_i, x_j) \le 1 - \varepsilon

    with the images of a cluster sorted by ascending cosine to its centroid. The score is 1 - max,
    so that selecting the highest scores is the rule at the threshold that gives the budget; the
    first image of a cluster scores 2.

    Budget: over the whole pool, as published; tasks are ignored.

    Differences to the paper: the threshold follows from the budget and ties go by uid, so that the
    selection is exactly the budget; images of the reference split, which are trained on in any
    case, come before all others of their cluster; clusters have about 1000 images at any size of
    the pool (in the paper 8800 at 440 million images), and k-means is not spherical, which on rows
    of unit length differs in the scale of the centroids.

    Args:
        images_per_cluster: a pool of N images gets max(1, N // this) clusters. Copies in different
            clusters are not detected, and cost grows with this number.

    Source: Abbas et al., "SemDeDup: Data-efficient learning at web-scale through semantic
    deduplication", 2023, section 3 and Algorithm A7.
    """

    needs: ClassVar[tuple[str, ...]] = (Features.name,)

    def __init__(self, images_per_cluster: Count = 1000) -> None:
        self.images_per_cluster = images_per_cluster

    def select(self, pool: Pool, signals: Signals, budget: int, *, seed: int) -> Selection:
        """Select the images that are least similar to earlier ones."""
        features = torch.from_numpy(signals.features(pool, np.arange(len(pool))))  # (N, D)
        clusters = kmeans(features, max(1, len(pool) // self.images_per_cluster), seed=seed)
        score = np.empty(len(pool))
        for members, centroid in zip(
            members_by_label(clusters.labels), clusters.centroids, strict=True
        ):
            rows = in_order(features[members], centroid, torch.from_numpy(pool.reference)[members])
            similarity = similarity_to_earlier(features[members[rows]])
            score[members[rows].numpy()] = 1 - similarity.round(decimals=12).numpy()
        order = best_first(pool, score)
        selection = make_selection(pool, order, budget, score, "repeats no other of its cluster")
        return replace(selection, cluster=clusters.labels.numpy())


def in_order(features: Tensor, centroid: Tensor, first: Tensor) -> Tensor:
    """Return the rows of a cluster in order of preference.

    Args:
        features: (n, D) rows of the cluster, of unit length.
        centroid: (D,) its centroid.
        first: (n,) bool, rows that come before all others.
    """
    near = (features.double() @ centroid.double()).round(decimals=12)  # (n,)
    return torch.where(first, -torch.inf, near).argsort(stable=True)
