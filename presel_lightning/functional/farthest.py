"""Greedy k-center: farthest-first traversal."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from presel_lightning.functional.threads import map_blocks, single_threaded

_BLOCK = 4096  # rows of a matrix product; part of the result's identity
_CANDIDATES = 2048  # farthest rows whose distance is updated after every pick
_PENDING = 512  # picks after which the distances of all other rows are updated


class Farthest(NamedTuple):
    """Result of `farthest_first`."""

    rows: Tensor
    """(count,) int64 row numbers, in the order in which they were picked."""
    distance: Tensor
    """(N,) float64 distance to the nearest selected row: of a pick when it was picked, of the
    others after the last pick; 2 where nothing was selected yet, 0 for a row selected before."""


def farthest_first(
    features: Tensor, count: int, selected: Tensor | None = None, *, first: int = 0
) -> Farthest:
    r"""Pick rows by greedy k-center: each pick is the row farthest from all selected rows.

    .. math:: u = \arg\max_{i \notin s} \min_{j \in s} \lVert x_i - x_j \rVert_2, \quad
        s \leftarrow s \cup \{u\}

    on rows of unit length. Ties (of cosines, to 1e-12) go to the earlier row.

    A running minimum makes the cost O(N · count · D), in matrix products: minima only fall, so the
    best of the 2048 farthest rows is the next pick as long as its minimum stays above the last
    known minimum of every other row, and the other rows are updated later, in one product.

    Args:
        features: (N, D) of a float dtype; converted to float64 block by block.
        count: Rows to pick, at most those not selected before.
        selected: (N,) bool, rows selected before.
        first: The first pick where nothing was selected before.

    Returns:
        `Farthest`: picks and distances.

    Raises:
        ValueError: ``count`` exceeds the number of rows that are not selected.

    Source: Sener and Savarese 2018, Active learning for convolutional neural networks: a core-set
    approach, Algorithm 1.

    >>> farthest_first(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [-1.0, 0.0]]), 3).rows
    tensor([0, 3, 2])
    """
    taken = torch.zeros(len(features), dtype=torch.bool) if selected is None else selected.clone()
    if count > int((~taken).sum()):
        raise ValueError(f"expected at most {int((~taken).sum())} rows to pick, got {count}")
    closest = torch.full((len(features),), -1.0, dtype=torch.float64)  # cosine to a selected row
    picks: list[int] = []
    with single_threaded() as threads:
        if taken.any():
            for part in taken.nonzero()[:, 0].split(_PENDING):
                _cover(features, part, closest, threads)
        elif count:
            picks.append(first)
            taken[first] = True
            _cover(features, torch.tensor([first]), closest, threads)
            closest[first] = -1.0  # nothing was selected yet
        while len(picks) < count:
            new = _next(features, closest, taken, count - len(picks))
            _cover(features, new, closest, threads, ~taken)
            picks += new.tolist()
    return Farthest(torch.tensor(picks, dtype=torch.int64), (2 - 2 * closest).clamp(min=0).sqrt())


def _next(features: Tensor, closest: Tensor, taken: Tensor, count: int) -> Tensor:
    """Return the next picks that the farthest rows alone determine, and mark them as taken."""
    rest = (~taken).nonzero()[:, 0]
    order = rest[closest[rest].argsort(stable=True)]
    if closest[order[0]] >= 1:  # only copies of selected rows are left
        taken[order[:count]] = True
        return order[:count]
    bound = closest[order[_CANDIDATES]] if len(order) > _CANDIDATES else torch.inf
    candidates = order[:_CANDIDATES].sort().values
    vectors = _unit(features[candidates])  # (M, D)
    near = closest[candidates]
    picks: list[int] = []
    while len(picks) < min(count, _PENDING):
        best = int(near.numpy().argmin())  # the first of equals
        if picks and not near[best] < bound:
            break
        picks.append(best)
        closest[candidates[best]] = near[best]
        near = torch.maximum(near, _cosine(vectors, vectors[best : best + 1])[:, 0])
        near[picks] = torch.inf
    taken[candidates[picks]] = True
    return candidates[picks]


def _cover(
    features: Tensor, centers: Tensor, closest: Tensor, threads: int, open_: Tensor | None = None
) -> None:
    """Raise `closest` to the cosine with the centers where that is higher, in open rows only."""
    vectors = _unit(features[centers])

    def block(start: int, stop: int) -> None:
        near = _cosine(_unit(features[start:stop]), vectors).amax(dim=1)
        near = torch.maximum(near, closest[start:stop])
        if open_ is not None:
            near = torch.where(open_[start:stop], near, closest[start:stop])
        closest[start:stop] = near

    map_blocks(block, len(features), _BLOCK, threads)


def _unit(rows: Tensor) -> Tensor:
    return normalize(rows.double(), dim=1)


def _cosine(rows: Tensor, centers: Tensor) -> Tensor:
    return (rows @ centers.T).round_(decimals=12)
