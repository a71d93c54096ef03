"""Shrinkage of group means toward the grand mean."""

from __future__ import annotations

from torch import Tensor


def shrink_to_mean(means: Tensor, errors: Tensor) -> Tensor:
    r"""Shrink each group's mean toward the grand mean by its standard error.

    .. math::
        \hat\mu_t = \frac{\tau^2 \bar x_t + \sigma_t^2 \bar x}{\tau^2 + \sigma_t^2}, \qquad
        \tau^2 = \max\bigl(0, \mathrm{var}(\bar x) - \overline{\sigma^2}\bigr)

    with :math:`\bar x` the mean of the group means. An unknown standard error is replaced by the
    mean of the known variances.

    Args:
        means: (M,) mean of each group; NaN where nothing was measured, which stays NaN.
        errors: (M,) standard error of each, NaN where unknown.

    Returns:
        (M,) shrunk means.

    Source: the James-Stein estimator with one variance per group.

    >>> import torch
    >>> shrink_to_mean(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 1.0]))
    tensor([0.5000, 1.5000])
    """
    known = means.isfinite()
    if known.sum() < 2:
        return means
    variance = errors.square()
    usual = variance[variance.isfinite()]
    if not len(usual):
        return means
    variance = variance.where(variance.isfinite(), usual.mean())
    center = means[known].mean()
    between = (means[known].var() - variance[known].mean()).clamp(min=0.0)
    total = between + variance
    share = (between / total).where(total > 0, 1.0)
    return share * means + (1 - share) * center
