"""k-means++ sampling (D² sampling): rows far from those drawn before are likelier."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from presel_lightning.functional.farthest import Farthest
from presel_lightning.functional.threads import single_threaded

_BLOCK = 4096  # selected rows of a product


def d2_sample(
    features: Tensor, count: int, selected: Tensor | None = None, *, seed: int
) -> Farthest:
    r"""Draw rows, each with a chance in proportion to its squared distance to the nearest drawn one.

    .. math:: P(i) = \frac{D(i)^2}{\sum_j D(j)^2}, \quad D(i) = \min_{j \in s} \lVert x_i - x_j \rVert_2

    on rows of unit length. The first row is uniform where nothing was selected before. Of equal rows the
    first is taken, and copies of drawn rows come last, in order.

    A running minimum makes the cost O(N · count · D).

    Args:
        features: (N, D) of a float dtype.
        count: rows to draw, at most those not selected before.
        selected: (N,) bool, rows selected before.
        seed: of the draws.

    Returns:
        `Farthest`: rows in the order of their draw, and distances (0 for a copy of a drawn row).

    Raises:
        ValueError: ``count`` exceeds the number of rows that are not selected.

    Source: Arthur and Vassilvitskii, "k-means++: The Advantages of Careful Seeding", SODA 2007.

    >>> rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> sorted(d2_sample(rows, 2, seed=0).rows.tolist())[1]
    2
    """
    taken = torch.zeros(len(features), dtype=torch.bool) if selected is None else selected.clone()
    if count > int((~taken).sum()):
        raise ValueError(f"expected at most {int((~taken).sum())} rows to draw, got {count}")
    generator = torch.Generator().manual_seed(seed)
    rows = normalize(features.double(), dim=1)
    square = torch.full((len(rows),), 4.0, dtype=torch.float64)  # to the nearest drawn row
    picks: list[int] = []
    distance = torch.empty(count, dtype=torch.float64)
    with single_threaded():
        before = taken.nonzero()[:, 0]
        for part in before.split(_BLOCK) if len(before) else ():
            torch.minimum(square, _squares(rows, rows[part]).amin(dim=1), out=square)
        while len(picks) < count:
            mass = torch.where(taken, 0.0, square)
            if not mass.any():  # only copies of drawn rows are left
                rest = (~taken).nonzero()[: count - len(picks), 0]
                distance[len(picks) :] = 0.0
                picks += rest.tolist()
                break
            drawn = _draw(mass, generator)
            near = _squares(rows, rows[drawn : drawn + 1])[:, 0]
            pick = int(((near == 0) & ~taken).nonzero()[0])  # the first of its copies
            distance[len(picks)] = square[pick]
            picks.append(pick)
            taken[pick] = True
            torch.minimum(square, near, out=square)
    order = torch.tensor(picks, dtype=torch.int64)
    square[order] = distance
    return Farthest(order, square.sqrt())


def _draw(mass: Tensor, generator: torch.Generator) -> int:
    """Draw a row in proportion to its mass; one of mass 0 never."""
    total = mass.cumsum(dim=0)
    at = torch.rand(1, generator=generator, dtype=torch.float64) * total[-1]
    return int(torch.searchsorted(total, at, right=True).clamp(max=int(mass.nonzero()[-1])))


def _squares(rows: Tensor, centers: Tensor) -> Tensor:
    """Squared distances of rows and centers of unit length, (n, c); 0 up to rounding is 0."""
    return (2 - 2 * (rows @ centers.T).round_(decimals=12)).clamp_(min=0)
