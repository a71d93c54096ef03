"""Power-law learning curves, and the greedy allocation of a budget by them."""

from __future__ import annotations

import heapq

import torch
from torch import Tensor

STEEPEST = 2.0


def power_law(start: Tensor, after: Tensor, n: Tensor) -> Tensor:
    r"""Fit the exponent of :math:`L(n) = L(0) (1 + n)^{-a}` through two losses.

    .. math:: a = \mathrm{clip}\bigl(\log(L(0) / L(n)) / \log(1 + n), 0, 2\bigr)

    Args:
        start: (M,) losses before training.
        after: (M,) losses after n samples.
        n: (M,) number of these samples, above 0.

    Returns:
        (M,) exponents a; 0 where a loss is missing.

    >>> power_law(torch.tensor([4.0, 1.0]), torch.tensor([1.0, 1.0]), torch.tensor([3.0, 3.0]))
    tensor([1., 0.])
    """
    slope = (start / after).log() / (1 + n).log()
    return slope.nan_to_num(0.0, posinf=STEEPEST).clamp(0.0, STEEPEST)


def spend(start: Tensor, slope: Tensor, begun: Tensor, free: Tensor, budget: int) -> Tensor:
    """Allocate one sample at a time to the task whose predicted loss it lowers most.

    Ties go to the first task.

    Args:
        start: (M,) losses before training.
        slope: (M,) exponents of `power_law`.
        begun: (M,) samples that each task has already.
        free: (M,) capacity of each task.
        budget: Samples to allocate; what exceeds the capacities stays unallocated.

    Returns:
        (M,) int64 samples of each task.

    >>> loss, slope = torch.tensor([4.0, 4.0]), torch.tensor([1.0, 0.5])
    >>> spend(loss, slope, torch.zeros(2), torch.tensor([9, 9]), 4)
    tensor([2, 2])
    """
    losses, slopes, n = start.tolist(), slope.tolist(), begun.tolist()
    left = [int(value) for value in free.tolist()]
    given = [0] * len(losses)

    def gain(task: int) -> float:
        now = n[task] + given[task]
        curve: float = losses[task] * ((1 + now) ** -slopes[task] - (2 + now) ** -slopes[task])
        return curve

    heap = [(-gain(task), task) for task in range(len(losses)) if left[task]]
    heapq.heapify(heap)
    for _ in range(budget):
        if not heap:
            break
        _, task = heapq.heappop(heap)
        given[task] += 1
        if given[task] < left[task]:
            heapq.heappush(heap, (-gain(task), task))
    return torch.tensor(given)
