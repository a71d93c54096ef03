"""ZCore: coverage minus redundancy over random two-dimensional subspaces."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

Points = tuple[Tensor, Tensor]
"""(S, 2) int64 dimensions, and (S, 2) float64 coordinates in them."""


def draw_points(features: Tensor, draws: int, seed: int) -> Points:
    """Sample points in random pairs of dimensions from a triangular distribution.

    Its parameters are the minimum, the median and the maximum of each dimension.

    Args:
        features: (N, D), D >= 2.
        draws: S, number of points.
        seed: seed of the samples.

    Returns:
        Dimensions and coordinates of the points, see `Points`.

    >>> features = torch.tensor([[0.0, 5.0], [1.0, 5.0], [2.0, 5.0]])
    >>> dimensions, places = draw_points(features, 100, seed=0)
    >>> dimensions.shape, places.shape
    (torch.Size([100, 2]), torch.Size([100, 2]))
    >>> bool(((places >= 0) & (places <= 5)).all())
    True
    """
    generator = torch.Generator().manual_seed(seed)
    width = features.shape[1]
    first = torch.randint(width, (draws,), generator=generator)
    second = torch.randint(width - 1, (draws,), generator=generator)
    dimensions = torch.stack([first, second + (second >= first)], dim=1)  # (S, 2), never equal
    u = torch.rand(draws, 2, generator=generator, dtype=torch.float64)
    low, mode, high = _bounds(features)[:, dimensions]  # (S, 2) each
    span = high - low
    rising = low + (u * span * (mode - low)).sqrt()
    falling = high - ((1 - u) * span * (high - mode)).sqrt()
    return dimensions, torch.where(u * span < mode - low, rising, falling)


def zcore(features: Tensor, points: Points, neighbors: int = 1000) -> Tensor:
    r"""Score each row by the sampled points that it covers, minus its redundancy.

    For every sampled point, the row c nearest to it gains 1; the ``neighbors`` rows nearest to c
    lose

    .. math:: w_j = \frac{d_j^{-4}}{\sum_{l} d_l^{-4}}, \quad d_j = \lVert x_j - x_c \rVert_1

    with all distances in the two dimensions of the point. Rows at distance 0 share the whole loss,
    which is the limit. Ties for c go to the earlier row; rows at the distance of the last neighbor
    are neighbors too.

    Points are sorted by their first dimension, and distances are computed only for rows that are
    near along it, which is exact and about five times as fast as all rows.

    Args:
        features: (N, D), float32.
        points: Result of `draw_points`.
        neighbors: Number of rows that lose.

    Returns:
        (N,) float64, min-max scaled to [0, 1]; 0 where all scores are equal.

    Source: ZCore (arXiv 2411.15349), Eq. 1-5.

    >>> rows = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    >>> zcore(rows, draw_points(rows, 100, seed=0), neighbors=1).argsort()  # the copy is worst
    tensor([1, 2, 0])
    """
    dimensions, places = points[0].numpy(), points[1].numpy().astype(np.float32)
    columns = features.T.float().contiguous().numpy()  # (D, N)
    score = np.zeros(len(features))
    k = min(neighbors, len(features) - 1)
    order = np.argsort(dimensions[:, 0], kind="stable")
    starts = np.flatnonzero(np.diff(dimensions[order, 0], prepend=-1))
    for draws in np.split(order, starts[1:]):
        view = _Strip(columns[dimensions[draws[0], 0]])
        for draw in draws:
            other = columns[dimensions[draw, 1]]
            covering = int(view.nearest(other, places[draw], 1)[0].min())
            score[covering] += 1
            if k:
                at = np.array([view.column[covering], other[covering]])
                rows, distance = view.nearest(other, at, k, but=covering)
                score[rows] -= _loss(distance)
    score -= score.min()
    return torch.from_numpy(score / (score.max() or 1.0))


class _Strip:
    """Rows sorted along one dimension, for nearest-neighbor queries in it and another one."""

    def __init__(self, column: np.ndarray) -> None:
        self.column = column
        self.order = np.argsort(column, kind="stable")
        self.sorted = column[self.order]

    def nearest(
        self, other: np.ndarray, at: np.ndarray, k: int, but: int = -1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the k rows nearest to a point, ties with the last included, and their distances.

        Args:
            other: (N,) coordinate of each row in the other dimension.
            at: (2,) the point.
            k: number of rows.
            but: a row to exclude.
        """
        middle = int(self.sorted.searchsorted(at[0]))
        # holds k rows if they are uniform in a square; extended below where it does not
        half = int(np.sqrt(0.5 * k * len(self.sorted))) + k + 1
        low, high = max(0, middle - half), min(len(self.sorted), middle + half)
        while True:
            rows = self.order[low:high]
            distance = np.abs(self.sorted[low:high] - at[0]) + np.abs(other[rows] - at[1])
            distance[rows == but] = np.inf
            last = np.partition(distance, k - 1)[k - 1]
            # a row farther than this along the first dimension is not a neighbor
            radius = last * np.float32(1 + 1e-6)
            need_low = int(self.sorted.searchsorted(at[0] - radius, "left"))
            need_high = int(self.sorted.searchsorted(at[0] + radius, "right"))
            if low <= need_low and need_high <= high:
                return rows[distance <= last], distance[distance <= last]
            low, high = min(low, need_low), max(high, need_high)


def _loss(distance: np.ndarray) -> np.ndarray:
    """Compute weights that fall with the fourth power of the distance and sum to 1."""
    least = distance.min()
    if least == 0:
        weights: np.ndarray = (distance == 0).astype(np.float64)
    else:
        weights = (least / distance.astype(np.float64)) ** 4
    weights /= weights.sum()
    return weights


def _bounds(features: Tensor) -> Tensor:
    """Compute minimum, median and maximum of each dimension, (3, D) float64."""
    low, high = features.aminmax(dim=0)
    middle = features.median(dim=0).values
    return torch.stack([low, middle, high]).double()
