"""One image of each of as many clusters as a task has images to give."""

from __future__ import annotations

from torch import Tensor

from presel_lightning.functional.medoids import medoids
from presel_lightning.run.ranges import Fraction
from presel_lightning.selectors.within.clusters import Device, device_of
from presel_lightning.selectors.within.ordered import InOrder, Ordered


class Medoids(InOrder):
    r"""Select the image nearest to the centroid of each of as many clusters as images are needed.

    .. math:: K = |R| + b, \qquad x_c = \arg\min_{x \in c} \lVert x - \mu_c \rVert_2

    for a budget of b beside the images R of the reference split. Images of the reference split and
    of earlier rounds count as selected: their clusters give last. Equal features count as one image.
    The score is minus the distance to the centroid. A task of more than 32,768 images is divided by
    k-means first; see `functional.medoids`.

    Args:
        near_duplicates: cosine similarity above which an image counts as a near duplicate of
            another of its cluster and comes last, such as 0.98.
        device: device of the clustering: `cpu`, `cuda`, or `auto` for a GPU if there is one.
            Each kind of device gives the same selection on every machine; the two may differ.

    Raises:
        UserError: a GPU is requested and missing.

    Source: a cluster for each label, as TypiClust (ICML 2022); measured in docs/selectors.md.
    """

    reason = "nearest to the center of its cluster"
    otherwise = "not nearest to the center of its cluster"

    def __init__(self, near_duplicates: Fraction | None = None, device: Device = "cpu") -> None:
        self.near_duplicates = near_duplicates
        self.device = device_of(device)

    def order(self, features: Tensor, n_new: int, taken: Tensor, *, seed: int) -> Ordered:
        """Cluster the task, and order by the turns of its clusters."""
        found = medoids(
            features,
            n_new,
            taken,
            seed=seed,
            near_duplicates=self.near_duplicates,
            device=self.device,
        )
        return Ordered(found.order, -found.distance, found.labels)
