"""The order in which the images of one cluster are taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from presel_lightning.functional.centrality import nearest_similarity
from presel_lightning.functional.duplicates import similarity_to_earlier
from presel_lightning.functional.farthest import farthest_first

Within = Literal["centrality", "coverage", "random"]

Order = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From the features (n, D) of a cluster to the order (n,) of its rows and their scores (n,)."""


def in_cluster(
    within: Within = "centrality",
    *,
    neighbors: int = 5,
    near_duplicates: float | None = None,
    seed: int = 0,
) -> Order:
    """How the images of a cluster are put into order.

    Args:
        within: `centrality` takes the most typical first (the paper), `coverage` each time the
            image farthest from those taken, beginning with the most typical; `random` any.
        neighbors: k of the Neighbor Centrality.
        near_duplicates: an image whose cosine similarity to an earlier one of the cluster is above
            this is taken last, and is no neighbour to the others.
        seed: of `random`.
    """

    def order(features: Tensor) -> tuple[Tensor, Tensor]:
        repeated = torch.zeros(len(features), dtype=torch.bool)
        if near_duplicates is not None:
            repeated = similarity_to_earlier(features) > near_duplicates
        first, last = (~repeated).nonzero()[:, 0], repeated.nonzero()[:, 0]
        score = torch.full((len(features),), -1.0, dtype=torch.float64)
        score[first] = nearest_similarity(features[first], neighbors)
        best = first[score[first].round(decimals=12).argsort(descending=True, stable=True)]
        if within == "coverage":
            start = int((first == best[0]).nonzero()[0, 0])
            best = first[farthest_first(features[first], len(first), first=start).rows]
        elif within == "random":
            generator = torch.Generator().manual_seed(seed)
            best = first[torch.randperm(len(first), generator=generator)]
        return torch.cat([best, last]), score

    return order
