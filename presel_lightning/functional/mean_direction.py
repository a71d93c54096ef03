"""One feature of several images."""

from torch import Tensor
from torch.nn.functional import normalize


def mean_direction(features: Tensor) -> Tensor:
    r"""Compute the mean of the normalised rows, normalised again.

    .. math:: \bar v = \frac{m}{\lVert m \rVert}, \quad
        m = \frac{1}{n} \sum_{i=1}^{n} \frac{v_i}{\lVert v_i \rVert}

    Computed in float32 and returned in the dtype of the features; rows that cancel give 0.

    Args:
        features: (n, D), any float dtype; n is 1 or more.

    Returns:
        (D,) in the dtype of the features.

    >>> import torch
    >>> mean_direction(torch.tensor([[2.0, 0.0], [0.0, 1.0]]))
    tensor([0.7071, 0.7071])
    """
    mean = normalize(features.float(), dim=-1).mean(dim=0)  # (D,)
    return normalize(mean, dim=-1).to(features.dtype)
