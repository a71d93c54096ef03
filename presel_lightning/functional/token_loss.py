"""Cross-entropy of the answer tokens, per sample."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

IGNORE = -100


def answer_positions(labels: Tensor) -> Tensor:
    """Return the positions whose next token belongs to an answer.

    Args:
        labels: (B, L) token ids, `IGNORE` where there is no answer.

    Returns:
        (B, L - 1) bool: True where the hidden state at that position predicts an answer token.

    >>> answer_positions(torch.tensor([[IGNORE, IGNORE, 7, 2]]))
    tensor([[False,  True,  True]])
    """
    return labels[:, 1:] != IGNORE


def sample_losses(
    logits: Tensor, labels: Tensor, samples: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""Sum the token losses of each sample: :math:`\sum_t -\log p(r_t \mid r_{<t}, \cdot)`.

    Computed in fp32 whatever the model's precision. The mean token loss of PreSel's Eq. 1-2 is
    the first result divided by the second.

    Args:
        logits: (T, V) at the T answer positions of the batch, rows of the batch one after another.
        labels: (B, L) token ids with `IGNORE` outside the answers.
        samples: (B, L) number of the sample that each token is of, where a row packs several; the
            results are then those of samples 0 to the largest.

    Returns:
        (B,) summed losses in nats, and (B,) number of answer tokens.

    >>> labels = torch.tensor([[IGNORE, 0, 1], [IGNORE, IGNORE, 1]])
    >>> sample_losses(torch.zeros(3, 2), labels)  # log 2 for each token
    (tensor([1.3863, 0.6931]), tensor([2, 1]))
    """
    mask = answer_positions(labels)
    targets = labels[:, 1:][mask]  # (T,)
    losses = cross_entropy(logits.float(), targets, reduction="none")
    if samples is None:
        rows, n = mask.nonzero()[:, 0], labels.shape[0]
    else:
        rows, n = samples[:, 1:][mask], int(samples.max()) + 1
    sums = torch.zeros(n).to(losses).index_add_(0, rows, losses)
    return sums, torch.bincount(rows, minlength=n)


def weighted_total(sums: Tensor, counts: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    r"""Compute numerator and denominator of the training loss over some samples of a global batch.

    .. math:: L = \frac{\sum_i w_i \sum_t -\log p(r_{it} \mid r_{i,<t}, \cdot)}{\sum_i w_i n_i}

    Both are sums over samples, so ranks only add theirs up. A common factor of all weights
    cancels.

    Args:
        sums: (B,) summed answer loss of each sample, in nats.
        counts: (B,) number of answer tokens n of each sample.
        weights: (B,) training weight w of each sample; 0 masks the sample out.

    Returns:
        The numerator, and the denominator: the weighted number of answer tokens.

    Example:
        >>> sums, counts = torch.tensor([6.0, 1.0]), torch.tensor([3, 2])
        >>> weighted_total(sums, counts, torch.tensor([1.0, 3.0]))
        (tensor(9.), tensor(9.))
    """
    return (sums * weights).sum(), (counts * weights).sum()


def teacher_forced_match(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the teacher-forced exact match of each sample: every answer token is the argmax.

    It equals the exact match of the answer under greedy decoding.

    Args:
        logits: (T, V) at the T answer positions of the batch, rows of the batch one after another.
        labels: (B, L) token ids with `IGNORE` outside the answers.

    Returns:
        (B,) float, 0 or 1; 1 where there is no answer token.
    """
    mask = answer_positions(labels)
    wrong = (logits.argmax(dim=-1) != labels[:, 1:][mask]).float()
    rows = mask.nonzero()[:, 0]
    missed = torch.zeros(labels.shape[0]).to(wrong).index_add_(0, rows, wrong)
    return (missed == 0).float()


def sample_means(values: Tensor, labels: Tensor) -> Tensor:
    """Average values of answer tokens over each sample.

    Args:
        values: (T,) at the T answer positions of the batch, rows of the batch one after another.
        labels: (B, L) token ids with `IGNORE` outside the answers.

    Returns:
        (B,) means; NaN where a sample has no answer token.
    """
    mask = answer_positions(labels)
    sums = torch.zeros(labels.shape[0]).to(values).index_add_(0, mask.nonzero()[:, 0], values)
    return sums / mask.sum(dim=1)


def error_norms(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    r"""Compute error norm and margin of every answer token, with p the softmax of the logits.

    .. math:: e_t = \lVert p_t - \mathrm{onehot}(r_t) \rVert_2, \quad
        m_t = p_t(r_t) - \max_{v \ne r_t} p_t(v)

    The squared norm is :math:`(1 - p_r)^2 + \sum_{v \ne r} p_v^2`, so no one-hot vectors are held.

    Args:
        logits: (T, V) at the T answer positions of the batch, rows of the batch one after another.
        labels: (B, L) token ids with `IGNORE` outside the answers.

    Returns:
        (T,) norms and (T,) margins, float32.

    Source: Paul et al., "Deep Learning on a Data Diet", 2021 (EL2N); Pleiss et al. 2020 (margin).

    >>> [v.tolist() for v in error_norms(torch.zeros(1, 2), torch.tensor([[IGNORE, 1]]))]
    [[0.7071067690849304], [0.0]]
    """
    targets = labels[:, 1:][answer_positions(labels)][:, None]  # (T, 1)
    chances = logits.float().softmax(dim=-1)  # (T, V)
    own = chances.gather(1, targets)[:, 0]
    others = chances.scatter(1, targets, 0.0)
    norms = (others.square().sum(dim=1) + (1 - own).square()).sqrt()
    return norms, own - others.amax(dim=1)


def first_answer_tokens(labels: Tensor, counts: Tensor) -> Tensor:
    """Take answer tokens beyond the first `counts` (B,) of each sample out of labels (B, L).

    >>> first_answer_tokens(torch.tensor([[IGNORE, 7, 8]]), torch.tensor([1]))
    tensor([[-100,    7, -100]])
    """
    number = (labels != IGNORE).cumsum(dim=1)
    return labels.masked_fill(number > counts[:, None], IGNORE)
