"""Instruction relevance score (IRS) of a sample, and the task weights that follow from it."""

import torch
from torch import Tensor


def instruction_relevance(loss_with_question: Tensor, loss_without_question: Tensor) -> Tensor:
    r"""Compute the instruction relevance score; lower means that the question helps more.

    .. math:: \mathrm{IRS} = L_{R|Q,I} \,/\, L_{R|I}

    Args:
        loss_with_question: (N,) mean token cross-entropy of the response, in nats, given image
            and question.
        loss_without_question: (N,) the same given the image alone.

    Returns:
        (N,) float64. NaN (undefined) where the denominator is 0 or a loss is not finite; 0 where
        only the numerator is 0.

    Raises:
        ValueError: The two differ in shape.

    Source: PreSel Eq. 1-3.

    >>> instruction_relevance(torch.tensor([1.0, 0.0]), torch.tensor([2.0, 4.0]))
    tensor([0.5000, 0.0000], dtype=torch.float64)
    """
    if loss_with_question.shape != loss_without_question.shape:
        raise ValueError(
            f"expected losses of one shape, got {tuple(loss_with_question.shape)} with and "
            f"{tuple(loss_without_question.shape)} without the question"
        )
    numerator = loss_with_question.double()
    denominator = loss_without_question.double()
    defined = numerator.isfinite() & denominator.isfinite() & (denominator != 0)
    return torch.where(defined, numerator / denominator, torch.nan)


def task_weights(task_relevance: Tensor, temperature: float | None = None) -> Tensor:
    r"""Compute the share of the budget of each task: the lower its IRS, the larger its share.

    .. math:: w_i = \frac{\exp(-s(T_i)/\tau)}{\sum_j \exp(-s(T_j)/\tau)}, \quad \tau = 1/\sqrt{M}

    Args:
        task_relevance: (M,) mean IRS of each task. A task without a defined sample (not finite
            here) counts as the mean of the defined tasks.
        temperature: tau; None means 1 / sqrt(M).

    Returns:
        (M,) float64 that sums to 1; uniform where no task is defined.

    Raises:
        ValueError: The temperature is not positive.

    Source: PreSel Eq. 4-5.

    >>> task_weights(torch.tensor([0.5, 0.5]))
    tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    relevance = task_relevance.double()  # (M,)
    if temperature is None:
        temperature = max(len(relevance), 1) ** -0.5
    if not temperature > 0:
        raise ValueError(f"expected a positive temperature, got {temperature}")
    defined = relevance.isfinite()
    neutral = relevance[defined].mean() if defined.any() else relevance.new_zeros(())
    return torch.softmax(-torch.where(defined, relevance, neutral) / temperature, dim=0)
