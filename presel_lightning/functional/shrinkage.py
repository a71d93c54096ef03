"""Means of small groups, drawn towards the mean of all."""

from __future__ import annotations

from torch import Tensor


def shrink_to_mean(means: Tensor, errors: Tensor) -> Tensor:
    r"""Shrink each group's mean by how little is known of it.

    .. math::
        \hat\mu_t = \frac{\tau^2 \bar x_t + \sigma_t^2 \bar x}{\tau^2 + \sigma_t^2}, \qquad
        \tau^2 = \max\bigl(0, \mathrm{var}(\bar x) - \overline{\sigma^2}\bigr)

    with :math:`\bar x` the mean of the groups. A group of unknown error is taken to have the mean
    one of the others.

    Args:
        means: (M,) mean of each group; NaN where nothing was measured, and then NaN comes back.
        errors: (M,) standard error of each, NaN where unknown.

    Source: the James-Stein estimator with a variance of its own for each group.

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
    centre = means[known].mean()
    between = (means[known].var() - variance[known].mean()).clamp(min=0.0)
    total = between + variance
    share = (between / total).where(total > 0, 1.0)
    return share * means + (1 - share) * centre
