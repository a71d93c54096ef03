"""Farthest-first selection inside a cluster."""

from __future__ import annotations

from torch import Tensor

from presel_lightning.functional.farthest import farthest_first
from presel_lightning.selectors.within.neighbor_centrality import NeighborCentrality


class Coverage(NeighborCentrality):
    """Select the farthest image of a cluster from those selected, starting at the most central.

    The score is the Neighbor Centrality. For options see `NeighborCentrality`.
    """

    reason = "far from the others of its cluster"
    otherwise = "near to others of its cluster"

    def order(self, features: Tensor, *, seed: int) -> tuple[Tensor, Tensor]:
        """Order farthest first; ties by uid."""
        central, score = super().order(features, seed=seed)
        return farthest_first(features, len(features), first=int(central[0])).rows, score
