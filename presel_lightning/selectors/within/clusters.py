"""Base class of rules that cluster a task and select the first images of each cluster."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from presel_lightning.errors import UserError
from presel_lightning.functional import KMeans, kmeans
from presel_lightning.functional.duplicates import similarity_to_earlier
from presel_lightning.functional.faiss_kmeans import faiss_kmeans, require_faiss
from presel_lightning.run.ranges import Count, Fraction
from presel_lightning.selectors.in_task import Allocation, Order, select_from_clusters
from presel_lightning.selectors.within.base import Selected, Within

Backend = Literal["torch", "faiss"]
Device = Literal["auto", "cpu", "cuda"]


class InClusters(Within):
    """Cluster a task by k-means, and select the first images of each cluster.

    A task of n images, the reference split included, has max(1, n // images_per_cluster) clusters;
    quotas are in proportion to the available images, and the rule orders each cluster.

    Args:
        images_per_cluster: a task of n images gets max(1, n // this) clusters.
        near_duplicates: cosine similarity above which an image counts as a near duplicate of
            another of its cluster and comes last, such as 0.98.
        backend: of the clustering; `faiss` requires the extra of that name and runs on the CPU.
        device: device of the `torch` backend: `cpu`, `cuda`, or `auto` for a GPU if there is one.
            Each kind of device gives the same selection on every machine; the two may differ.

    Raises:
        UserError: faiss or a GPU is requested and missing, or both are requested.

    Source: PreSel, Eq. 6.
    """

    def __init__(
        self,
        images_per_cluster: Count = 100,
        near_duplicates: Fraction | None = None,
        backend: Backend = "torch",
        device: Device = "cpu",
    ) -> None:
        if backend == "faiss":
            require_faiss()
            if device != "cpu":
                raise UserError(
                    "selector.init_args.within: backend faiss runs on the CPU; set device to cpu, or "
                    "backend to torch"
                )
        self.images_per_cluster = images_per_cluster
        self.near_duplicates = near_duplicates
        self.backend = backend
        self.device = device_of(device)

    @abstractmethod
    def order(self, features: Tensor, *, seed: int) -> tuple[Tensor, Tensor]:
        """Order the available images of one cluster.

        Args:
            features: (n, D) in the order of uid, without near duplicates.
            seed: seed of every random number.

        Returns:
            (n,) row numbers in order of preference; (n,) float64 scores of the rows.
        """

    def select(
        self,
        features: Tensor,
        budget: float,
        excluded: Tensor,
        allocation: Allocation = "exact",
        *,
        earlier: Tensor | None = None,
        seed: int,
    ) -> Selected:
        """Cluster the task and select the first images of each; see `select_from_clusters`."""
        labels = self.cluster(features, seed).labels
        order: Order = partial(self.order, seed=seed)
        if self.near_duplicates is not None:
            order = repetitions_last(order, self.near_duplicates)
        found = select_from_clusters(features, labels, budget, excluded, allocation, order=order)
        return Selected(found.rows, found.score, labels, found.rank)

    def cluster(self, features: Tensor, seed: int) -> KMeans:
        """Cluster a task's images, (n, D)."""
        n_clusters = max(1, len(features) // self.images_per_cluster)
        if self.backend == "faiss":
            return faiss_kmeans(features, n_clusters, seed=seed)
        return kmeans(features, n_clusters, seed=seed, device=self.device)


def repetitions_last(order: Order, similarity: float) -> Order:
    """Return the same order with near duplicates at its end, by uid, with score -1.

    Args:
        order: order of the images that are not near duplicates.
        similarity: an image whose cosine similarity to an earlier one of the cluster is above this
            is a near duplicate, and is not a neighbor of any image.
    """

    def ordered(features: Tensor) -> tuple[Tensor, Tensor]:
        repeated = similarity_to_earlier(features) > similarity  # (n,)
        first, last = (~repeated).nonzero()[:, 0], repeated.nonzero()[:, 0]
        score = torch.full((len(features),), -1.0, dtype=torch.float64)
        best, score[first] = order(features[first])
        return torch.cat([first[best], last]), score

    return ordered


def device_of(name: Device) -> str:
    """Resolve the name of a device on this machine.

    Raises:
        UserError: there is no GPU.
    """
    found = torch.cuda.is_available()
    if name == "cuda" and not found:
        raise UserError(
            "selector.init_args.within.init_args.device is cuda, but no GPU was found; set it to cpu "
            "or auto"
        )
    return name if name != "auto" else "cuda" if found else "cpu"
