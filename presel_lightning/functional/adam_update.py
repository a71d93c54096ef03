"""The step that Adam would make on one more gradient."""

from __future__ import annotations

from torch import Tensor

EPSILON = 1e-8


def adam_update(
    gradients: Tensor, first: Tensor, second: Tensor, betas: tuple[float, float] = (0.9, 0.999)
) -> Tensor:
    r"""Compute Adam's update for each gradient, from the moments that training has gathered.

    .. math:: \Gamma(g) = \frac{\beta_1 m + (1 - \beta_1) g}{\sqrt{\beta_2 v + (1 - \beta_2) g^2 + \epsilon}}

    Without the correction of the moments' bias: it is one factor for all gradients.

    Args:
        gradients: (B, ...) g of each sample.
        first: (...) m, the mean gradient.
        second: (...) v, the mean square.
        betas: decay of both.

    Returns:
        (B, ...).

    Source: LESS, ICML 2024, Section 3.1, as its code has the update.

    >>> from torch import ones, zeros
    >>> adam_update(ones(1, 2), zeros(2), zeros(2)).round(decimals=3)
    tensor([[3.1620, 3.1620]])
    """
    mean = betas[0] * first + (1 - betas[0]) * gradients
    square = betas[1] * second + (1 - betas[1]) * gradients.square()
    update: Tensor = mean / (square + EPSILON).sqrt()
    return update
