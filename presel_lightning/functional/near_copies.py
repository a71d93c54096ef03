"""Near copies among selected rows."""

import torch
from torch import Tensor

_BLOCK, _COLUMNS = 1024, 4096
_SAMPLE = 1000


def near_copies(features: Tensor, selected: Tensor, *, seed: int) -> Tensor:
    r"""Mark selected rows that are nearer to another selected row than rows typically are to any.

    .. math:: \min_{j \in S, j \ne i} \lVert x_i - x_j \rVert < \mathrm{median}_k \min_{l \ne k}
        \lVert x_k - x_l \rVert

    The median is over all rows, or a random sample of 1000.

    Args:
        features: (N, D) of a float dtype.
        selected: (N,) bool, S.
        seed: Seed of the sample.

    Returns:
        (N,) bool; False outside S.

    >>> rows = torch.tensor([[0.0], [0.1], [2.0], [3.0], [4.0], [9.0]])
    >>> near_copies(rows, torch.tensor([True, True, False, False, True, True]), seed=0)
    tensor([ True,  True, False, False, False, False])
    """
    result = torch.zeros(len(features), dtype=torch.bool)
    rows = selected.nonzero()[:, 0]
    if len(rows) < 2:
        return result
    sample = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))[:_SAMPLE]
    typical = _nearest(features, sample, torch.arange(len(features))).median()
    result[rows] = _nearest(features, rows, rows) < typical
    return result


def _nearest(features: Tensor, rows: Tensor, others: Tensor) -> Tensor:
    """Distance of each row to the nearest other row, (n,) float64."""
    nearest = []
    for some in rows.split(_BLOCK):
        here = features[some].double()
        best = torch.full((len(some),), torch.inf, dtype=torch.float64)
        for part in others.split(_COLUMNS):
            distance = torch.cdist(here, features[part].double())
            distance.masked_fill_(some[:, None] == part[None], torch.inf)
            best = torch.minimum(best, distance.amin(dim=1))
        nearest.append(best)
    return torch.cat(nearest)
