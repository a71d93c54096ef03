"""Facility location inside a task."""

from __future__ import annotations

import torch
from torch import Tensor

from presel_lightning.functional.facility import facility_location
from presel_lightning.run.ranges import ProperFraction
from presel_lightning.selectors.in_task import Allocation
from presel_lightning.selectors.within.base import Selected, Within


class Facility(Within):
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
        """Pick the images; those of earlier rounds come first."""
        wanted = min(int(budget + 1e-9), int((~excluded).sum()))
        earlier = torch.zeros_like(excluded) if earlier is None else earlier & ~excluded
        kept = earlier.nonzero()[:, 0]
        taken = excluded | earlier
        found = facility_location(
            features, max(0, wanted - len(kept)), taken, seed=seed, epsilon=self.epsilon
        )
        rest = ~taken
        rest[found.rows] = False
        left = rest.nonzero()[:, 0]
        left = left[found.gain[left].argsort(descending=True, stable=True)]
        order = torch.cat([kept, found.rows, left])
        rank = torch.full((len(features),), -1)
        rank[order] = torch.arange(len(order))
        score = found.gain.masked_fill(excluded, torch.nan)
        return Selected(order[:wanted].sort().values, score, torch.full_like(rank, -1), rank)
