"""Random selection inside a cluster, the baseline of the other rules."""

from __future__ import annotations

import torch
from torch import Tensor

from presel_lightning.selectors.in_task import most_central_first
from presel_lightning.selectors.within.clusters import InClusters


class RandomOrder(InClusters):
    """Select the images of a cluster in random order; the score is their Neighbor Centrality.

    With one cluster per task, a larger budget extends a smaller one, so that weightings are
    compared on the same images.
    """

    reason = "in the random sample of its cluster"
    otherwise = "not in the random sample of its cluster"

    def order(self, features: Tensor, *, seed: int) -> tuple[Tensor, Tensor]:
        """Return a random permutation by seed."""
        generator = torch.Generator().manual_seed(seed)
        _, score = most_central_first(features)
        return torch.randperm(len(features), generator=generator), score
