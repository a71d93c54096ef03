"""Contrastive losses of image-text pairs: in a batch, and of one pair against a fixed bank."""

from __future__ import annotations

import torch
from torch import Tensor

TEMPERATURE = 0.07
"""Divides the cosines; CLIP's initial value, and InfluenceSpace's fixed one."""


def contrastive_losses(image: Tensor, text: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    r"""Compute the symmetric InfoNCE of each pair of a batch, in nats.

    .. math:: \ell_i = -\tfrac12 \log \frac{e^{v_i \cdot t_i / T}}{\sum_j e^{v_i \cdot t_j / T}}
        - \tfrac12 \log \frac{e^{v_i \cdot t_i / T}}{\sum_j e^{v_j \cdot t_i / T}}

    It is 0, with no gradient, in a batch of one pair: see `bank_losses`.

    Args:
        image: (B, D) v, of unit length.
        text: (B, D) t, of unit length.
        temperature: T.

    Returns:
        (B,) losses.

    Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision",
    ICML 2021, Figure 3.

    >>> contrastive_losses(torch.eye(2), torch.eye(2), temperature=1.0)
    tensor([0.3133, 0.3133])
    >>> contrastive_losses(torch.eye(2)[:1], torch.eye(2)[1:])  # of one pair
    tensor([0.])
    """
    logits = image.float() @ text.float().T / temperature  # (B, B)
    right = logits.diagonal()
    return (logits.logsumexp(dim=1) + logits.logsumexp(dim=0)) / 2 - right


def bank_losses(
    image: Tensor,
    text: Tensor,
    bank_image: Tensor,
    bank_text: Tensor,
    own: Tensor,
    temperature: float = TEMPERATURE,
) -> Tensor:
    r"""Compute the symmetric InfoNCE of each pair alone, against a fixed bank of M other pairs.

    .. math:: \ell_i = \tfrac12 \log\Big(1 + \sum_m e^{(v_i \cdot t'_m - v_i \cdot t_i) / T}\Big)
        + \tfrac12 \log\Big(1 + \sum_m e^{(v'_m \cdot t_i - v_i \cdot t_i) / T}\Big)

    So the loss of a pair does not depend on which others are beside it in a batch, and has a
    gradient where it is alone.

    Args:
        image: (B, D) v, of unit length.
        text: (B, D) t, of unit length.
        bank_image: (M, D) v', of unit length.
        bank_text: (M, D) t', of unit length.
        own: (B, M) pairs of the bank that show the picture of the pair: no negatives of it.
        temperature: T.

    Returns:
        (B,) losses; 0 where no negative is left.

    >>> one, other = torch.eye(2)[:1], torch.eye(2)[1:]
    >>> bank_losses(one, one, other, other, torch.tensor([[False]]), temperature=1.0)
    tensor([0.3133])
    """
    right = (image * text).sum(dim=-1, dtype=torch.float32)[:, None]  # (B, 1)
    found = torch.zeros_like(right[:, 0])
    for one, bank in ((image, bank_text), (text, bank_image)):
        wrong = (one.float() @ bank.float().T).masked_fill(own, -torch.inf)  # (B, M)
        both = torch.cat([right, wrong], dim=1) / temperature
        found = found + (both.logsumexp(dim=1) - right[:, 0] / temperature) / 2
    return found
