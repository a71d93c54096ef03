"""Facility location inside a task."""

from __future__ import annotations

import torch
from torch import Tensor

from presel_lightning.functional.facility import facility_location
from presel_lightning.run.ranges import ProperFraction
from presel_lightning.selectors.within.ordered import InOrder, Ordered


class Facility(InOrder):
    """Select the images that together are as similar as possible to all images of the task.

    Stochastic greedy on cosine similarity; images of the reference split and of earlier rounds
    count as selected. The score is the gain in mean similarity. Cost grows as the square of the
    task: about 30 CPU-seconds for 20,000 images of 768 dimensions (docs/benchmarks.md).

    Args:
        epsilon: accuracy of the greedy picks, 0 to 1 (exclusive); 0 compares all images at each
            pick, at a cost of the cube of the task.

    Source: `functional.facility_location`.
    """

    reason = "covers images of its task"
    otherwise = "covered by those selected"

    def __init__(self, epsilon: ProperFraction = 0.1) -> None:
        self.epsilon = epsilon

    def order(self, features: Tensor, n_new: int, taken: Tensor, *, seed: int) -> Ordered:
        """Order by the greedy picks, then by gain."""
        found = facility_location(features, n_new, taken, seed=seed, epsilon=self.epsilon)
        rest = ~taken
        rest[found.rows] = False
        left = rest.nonzero()[:, 0]
        left = left[found.gain[left].argsort(descending=True, stable=True)]
        no_cluster = torch.full((len(features),), -1)
        return Ordered(torch.cat([found.rows, left]), found.gain, no_cluster)
