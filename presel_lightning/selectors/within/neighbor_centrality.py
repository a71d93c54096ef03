"""Selection by Neighbor Centrality, the rule of the paper."""

from __future__ import annotations

from torch import Tensor

from presel_lightning.run.ranges import Count, Fraction
from presel_lightning.selectors.in_task import most_central_first
from presel_lightning.selectors.within.clusters import Backend, Device, InClusters


class NeighborCentrality(InClusters):
    r"""Select the images of a cluster with the highest Neighbor Centrality first.

    .. math:: NC(x) = \frac{1}{k} \sum_{x' \in \mathrm{kNN}(x)} \cos(x, x')

    among the available images of the cluster, the reference split excluded.

    Args:
        neighbors: k of the Neighbor Centrality.
        images_per_cluster: a task of n images gets max(1, n // this) clusters.
        near_duplicates: cosine similarity above which an image counts as a near duplicate of
            another of its cluster and comes last, such as 0.98.
        backend: of the clustering; `faiss` requires the extra of that name and runs on the CPU.
        device: device of the `torch` backend: `cpu`, `cuda`, or `auto` for a GPU if there is one.
            Each kind of device gives the same selection on every machine; the two may differ.

    Source: PreSel, Eq. 6-7.
    """

    reason = "typical of its cluster"
    otherwise = "less typical of its cluster"

    def __init__(
        self,
        neighbors: Count = 5,
        images_per_cluster: Count = 100,
        near_duplicates: Fraction | None = None,
        backend: Backend = "torch",
        device: Device = "cpu",
    ) -> None:
        super().__init__(images_per_cluster, near_duplicates, backend, device)
        self.neighbors = neighbors

    def order(self, features: Tensor, *, seed: int) -> tuple[Tensor, Tensor]:
        """Order by descending Neighbor Centrality; ties by uid."""
        return most_central_first(features, self.neighbors)
