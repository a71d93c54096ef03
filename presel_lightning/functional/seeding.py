"""k-means++ initialization on a sample; on the CPU."""

import math

import torch
from torch import Tensor

from presel_lightning.functional.allocation import allocate

_SAMPLE = 20  # sampled rows per coarse centroid
_COARSE_PASSES = 3
_BLOCK = 1024
_CANDIDATES = 5
_ONE_LEVEL = 32  # up to this many centroids one level costs no more


def squared_distances(rows: Tensor, centroids: Tensor) -> Tensor:
    """Compute squared Euclidean distances minus the squared norm of the row: (n, C).

    >>> squared_distances(torch.tensor([[3.0]]), torch.tensor([[1.0], [3.0]]))  # less 9
    tensor([[-5., -9.]])
    """
    return torch.addmm(centroids.square().sum(dim=1), rows, centroids.T, alpha=-2)


def plus_plus(rows: Tensor, weight: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Pick centroids by greedy k-means++: each is the best of a few rows sampled by distance.

    Args:
        rows: (n, D) float32, n >= k.
        weight: (n,) float64 weight of each row.
        k: Number of centroids.
        generator: Random generator.

    Returns:
        (k, D), rows of ``rows``.

    Source: Arthur and Vassilvitskii 2007, k-means++: the advantages of careful seeding.

    >>> rows, weight = torch.tensor([[0.0], [0.1], [9.0]]), torch.ones(3).double()
    >>> plus_plus(rows, weight, 2, torch.Generator().manual_seed(0)).sort(dim=0).values[1]
    tensor([9.])
    """
    norms = rows.square().sum(dim=1)  # (n,)
    picks = _draw(weight, 1, generator).tolist()
    nearest = (squared_distances(rows, rows[picks])[:, 0] + norms).clamp_(min=0)  # (n,)
    while len(picks) < k:
        candidates = _draw(nearest * weight, _CANDIDATES, generator)
        distance = squared_distances(rows, rows[candidates]).add_(norms[:, None]).clamp_(min=0)
        distance = torch.minimum(distance, nearest[:, None])  # (n, candidates)
        best = int((weight @ distance.double()).argmin())
        picks.append(int(candidates[best]))
        nearest = distance[:, best].contiguous()
    return rows[picks]


def two_levels(
    rows: Tensor, weight: Tensor, k: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    r"""Initialize centroids in coarse cells; cost grows as :math:`k^{1.5}`, not :math:`k^2`.

    About :math:`\sqrt k` cells are fitted to the rows; each gets centroids in proportion to its
    inertia, picked by `plus_plus` among its own rows. Up to 32 centroids share one cell.

    Args:
        rows: (n, D) float32, a sample, n >= k.
        weight: (n,) float64 weight of each row.
        k: Number of centroids.
        generator: Random generator.

    Returns:
        (k, D) centroids, (cells, D) centers of the cells.

    >>> rows, weight = torch.arange(200.0)[:, None], torch.ones(200).double()
    >>> centroids, cells = two_levels(rows, weight, 36, torch.Generator().manual_seed(0))
    >>> centroids.shape, cells.shape
    (torch.Size([36, 1]), torch.Size([6, 1]))
    """
    if k <= _ONE_LEVEL:
        return plus_plus(rows, weight, k, generator), rows.mean(dim=0, keepdim=True)
    n_cells = round(math.sqrt(k))
    first = slice(_SAMPLE * n_cells)
    cells = plus_plus(rows[first], weight[first], n_cells, generator)
    norms = rows.square().sum(dim=1)
    for _ in range(_COARSE_PASSES):
        distance, label = squared_distances(rows, cells).min(dim=1)
        cells = _means(rows, weight, label, cells)
    inertia = weight.new_zeros(n_cells)
    inertia.index_add_(0, label, (distance + norms).clamp_(min=0) * weight)
    shares = allocate(inertia, torch.bincount(label, minlength=n_cells), k)
    seeds = [
        plus_plus(rows[label == cell], weight[label == cell], share, generator)
        for cell, share in enumerate(shares.tolist())
        if share > 0
    ]
    return torch.cat(seeds), cells


def _draw(mass: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Sample row numbers in proportion to their mass, with replacement."""
    cumulative = mass.double().cumsum(dim=0)
    at = torch.rand(n, generator=generator, dtype=torch.float64, device="cpu") * cumulative[-1]
    return torch.searchsorted(cumulative, at, right=True).clamp(max=len(mass) - 1)


def _means(rows: Tensor, weight: Tensor, label: Tensor, before: Tensor) -> Tensor:
    """Compute the weighted mean of each cell; a cell without rows keeps its center."""
    sums = weight.new_zeros(before.shape)
    for part in torch.arange(len(rows), device="cpu").split(_BLOCK):
        sums.index_add_(0, label[part], rows[part].double() * weight[part, None])
    mass = weight.new_zeros(len(before)).index_add_(0, label, weight)
    return torch.where(mass[:, None] > 0, (sums / mass[:, None]).float(), before)
