"""Mean correlation of an image with all others, in linear time."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

_BLOCK = 4096  # rows in float64 at a time


def mean_correlation(features: Tensor) -> Tensor:
    r"""Compute the mean Pearson correlation of each row with all rows, itself included.

    .. math:: \bar\rho_i = \frac{1}{N} \sum_j \rho(x_i, x_j) = \langle z_i, \bar z \rangle, \quad
        z_i = \frac{x_i - \mathrm{mean}(x_i)}{\lVert x_i - \mathrm{mean}(x_i) \rVert_2}

    The right side needs only the mean of z: O(N D), not O(N² D). A row whose entries are all equal
    has correlation 0.

    Args:
        features: (N, D) of a float dtype.

    Returns:
        (N,) float64 in [-1, 1].

    Source: PRISM (arXiv 2502.12119) for the sum; the linear form follows from it.

    >>> mean_correlation(torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [2.0, 3.0, 4.0]]))
    tensor([ 0.3333, -0.3333,  0.3333], dtype=torch.float64)
    """
    mean = torch.zeros(features.shape[1], dtype=torch.float64)
    for block in features.split(_BLOCK):
        mean += _standard(block).sum(dim=0)
    mean /= len(features)
    return torch.cat([_standard(block) @ mean for block in features.split(_BLOCK)])


def _standard(rows: Tensor) -> Tensor:
    """Center each row by its own mean and scale it to unit length; (B, D) float64."""
    rows = rows.double()
    return normalize(rows - rows.mean(dim=1, keepdim=True), dim=1)
