"""Spectral entropy and concentration of the hidden states of a sample."""

from __future__ import annotations

import torch
from torch import Tensor


def spectrum(states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    r"""Compute entropy and concentration of the normalized singular values of each sample.

    .. math:: p_j = \sigma_j / \sum_k \sigma_k, \quad s = -\sum_j p_j \ln p_j, \quad
        \tau = \max_j p_j

    The singular values are the roots of the eigenvalues of the smaller Gram matrix, in float64, so
    that none of the singular vectors is computed.

    Args:
        states: (B, L, D) hidden states, of any float dtype.
        mask: (B, L) bool, the tokens that count; the others are padding.

    Returns:
        (B,) entropies in nats and (B,) concentrations in (0, 1], float64; NaN where a state is not
        finite or all are 0.

    Source: DataTailor, arXiv 2412.06293.

    >>> s, tau = spectrum(torch.eye(4)[None], torch.ones(1, 4, dtype=torch.bool))
    >>> round(float(s.exp()), 6), round(float(tau), 6)
    (4.0, 0.25)
    """
    rows = states.double() * mask[..., None]
    rows = torch.where(mask[..., None], rows, 0.0)  # padding may hold anything
    finite = rows.isfinite().all(dim=(1, 2))
    rows = torch.where(finite[:, None, None], rows, 0.0)
    wide = rows.shape[1] <= rows.shape[2]
    gram = rows @ rows.mT if wide else rows.mT @ rows  # (B, m, m)
    values = torch.linalg.eigvalsh(gram).clamp(min=0)
    # what is below the rounding of the largest is 0: the root would lift it above its own size
    noise = values.amax(dim=1, keepdim=True) * gram.shape[1] * torch.finfo(torch.float64).eps
    values = torch.where(values <= noise, 0.0, values)
    share = values.sqrt()
    share = share / share.sum(dim=1, keepdim=True)  # NaN where all are 0
    entropy = -torch.xlogy(share, share).sum(dim=1)
    return torch.where(finite, entropy, torch.nan), torch.where(
        finite, share.amax(dim=1), torch.nan
    )


def last_states(states: Tensor, mask: Tensor) -> Tensor:
    """Return the state of the last token of each sample that counts, (B, D).

    Args:
        states: (B, L, D).
        mask: (B, L) bool.
    """
    places = torch.arange(mask.shape[1], device=mask.device)
    last = torch.where(mask, places, 0).amax(dim=1)
    return states[torch.arange(len(states), device=states.device), last]
