"""Selection inside one task: cluster quotas, and the images of each cluster."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from presel_lightning.functional.allocation import allocate
from presel_lightning.functional.centrality import members_by_label, nearest_similarity

Allocation = Literal["exact", "floor", "official"]

Order = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From the features (n, D) of a cluster to the order (n,) of its rows and their scores (n,)."""


class InTask(NamedTuple):
    """Result of `select_from_clusters`."""

    rows: Tensor
    """(n,) int64, the selected row numbers, ascending."""
    score: Tensor
    """(N,) float64 Neighbor Centrality; NaN where excluded."""
    rank: Tensor
    """(N,) int64 rank by score among the available rows of its cluster, from 0; -1 where excluded."""
    quota: Tensor
    """(C,) int64 rows selected of each label 0 … C-1."""


def select_in_task(
    features: Tensor,
    labels: Tensor,
    budget: float,
    excluded: Tensor,
    allocation: Allocation = "exact",
) -> Tensor:
    """Return the rows that PreSel selects from one task, ascending; see `select_from_clusters`."""
    return select_from_clusters(features, labels, budget, excluded, allocation).rows


def most_central_first(features: Tensor, neighbors: int = 5) -> tuple[Tensor, Tensor]:
    """Order the rows of a cluster by descending Neighbor Centrality.

    Scores that are equal to 1e-12 tie, and a tie goes to the earlier row.

    Args:
        features: (n, D) of the rows that are not excluded.
        neighbors: k of the Neighbor Centrality.

    Returns:
        (n,) row numbers in that order, and (n,) scores of the rows.

    Source: PreSel Eq. 7.
    """
    score = nearest_similarity(features, neighbors)
    return score.round(decimals=12).argsort(descending=True, stable=True), score


def select_from_clusters(
    features: Tensor,
    labels: Tensor,
    budget: float,
    excluded: Tensor,
    allocation: Allocation = "exact",
    *,
    order: Order = most_central_first,
) -> InTask:
    r"""Allocate a task's budget to its clusters, and select the most typical images of each.

    .. math:: n_c = N_i \, |A_c| \, / \, \sum_c |A_c|

    with :math:`A_c` the rows of cluster c that are not excluded. The ``n_c`` rows of :math:`A_c`
    with the highest Neighbor Centrality among :math:`A_c` are selected; scores that are equal to
    1e-12 tie, and a tie goes to the earlier row.

    Args:
        features: (N, D) of a float dtype, memory-mapped or not.
        labels: (N,) cluster of each row, from 0; gaps are clusters without rows.
        budget: Rows to select, an integer; only ``"floor"`` takes a fraction of a row.
        excluded: (N,) bool, rows of the reference split.
        allocation: ``"exact"`` rounds by largest remainder, so that ``min(budget, available)``
            rows are selected; ``"floor"`` rounds :math:`n_c` down as Eq. 6 is printed;
            ``"official"`` rounds and corrects as the authors' scripts do, and may miss the budget
            as they may.
        order: Order of the images of a cluster; by default the most typical first.

    Returns:
        `InTask`: selected rows, scores, ranks and cluster quotas.

    Raises:
        ValueError: Lengths differ, the budget is negative, or not an integer where it must be.

    Source: PreSel Eq. 6-7.
    """
    _check(features, labels, budget, excluded, allocation)
    available = (~excluded).nonzero()[:, 0]  # (A,)
    score = torch.full((len(labels),), torch.nan, dtype=torch.float64)
    rank = torch.full((len(labels),), -1)
    full = torch.bincount(labels)  # (C,)
    sizes = torch.bincount(labels[available], minlength=len(full))  # (C,)
    quota = _QUOTAS[allocation](budget, sizes, full)
    for members in members_by_label(labels[available]):
        rows = available[members]  # ascending
        best, score[rows] = order(features[rows])
        rank[rows[best]] = torch.arange(len(rows))
    kept = available[rank[available] < quota[labels[available]]]
    return InTask(kept, score, rank, quota)


def _check(
    features: Tensor, labels: Tensor, budget: float, excluded: Tensor, allocation: str
) -> None:
    if not len(features) == len(labels) == len(excluded):
        raise ValueError(
            f"expected one label and one mark a row, got {len(features)} rows, "
            f"{len(labels)} labels and {len(excluded)} marks"
        )
    if budget < 0 or (allocation != "floor" and budget != int(budget)):
        raise ValueError(f"expected a whole budget >= 0 for {allocation!r}, got {budget}")


def _exact(budget: float, sizes: Tensor, full: Tensor) -> Tensor:
    """Largest remainder."""
    return allocate(sizes, sizes, int(budget))


def _floor(budget: float, sizes: Tensor, full: Tensor) -> Tensor:
    """Round Eq. 6 down; 1e-9 of a row is float noise of the task's weight."""
    total = max(sum(sizes.tolist()), 1)
    return torch.tensor(
        [min(math.floor(budget * size / total + 1e-9), size) for size in sizes.tolist()]
    )


def _official(budget: float, sizes: Tensor, full: Tensor) -> Tensor:
    """Round half to even, then correct the sum in one pass over the clusters by full size."""
    wanted = int(budget)
    available: list[int] = sizes.tolist()
    total = max(sum(available), 1)
    quota = [min(round(a / total * wanted), a) for a in available]
    by_size = full.tolist().__getitem__
    rest = wanted - sum(quota)
    if rest > 0:
        for label in sorted(range(len(quota)), key=by_size, reverse=True):
            if rest > 0 and quota[label] < available[label]:
                quota[label] += 1
                rest -= 1
    for label in sorted(range(len(quota)), key=by_size):
        if rest < 0 and quota[label] > 0:
            quota[label] -= 1
            rest += 1
    return torch.tensor(quota)


_QUOTAS: dict[Allocation, Callable[[float, Tensor, Tensor], Tensor]] = {
    "exact": _exact,
    "floor": _floor,
    "official": _official,
}
