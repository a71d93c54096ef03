"""Task budgets rounded as in the published scripts of PreSel."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor, tensor

Remainder = Literal["largest_weight", "fractions"]


def official_task_budgets(
    weights: Tensor, total: int, sizes: Tensor, remainder: Remainder = "largest_weight"
) -> Tensor:
    """Compute integer task budgets by one of the two published rules.

    ``"largest_weight"`` (LLaVA): :math:`w_i N` rounded down; the remainder goes to the task of
    largest weight, a deficit is taken from the smallest. Capacities are ignored.
    ``"fractions"`` (Vision-Flan): rounded down; one more each by largest fraction while the task
    has capacity; clipped at capacity; the remainder is allocated one at a time in task order.

    Args:
        weights: (M,) shares of the tasks.
        total: N, the images to select over all tasks.
        sizes: (M,) available images of each task.
        remainder: The rule.

    Returns:
        (M,) int64. It sums to ``total``, with ``"fractions"`` to ``min(total, sum(sizes))``.

    Source: the published selection scripts of PreSel.

    >>> official_task_budgets(tensor([0.55, 0.45]), 9, tensor([50, 50]))
    tensor([5, 4])
    """
    return tensor(_RULES[remainder](weights.tolist(), total, sizes.tolist()))


def _largest_weight(weights: list[float], total: int, sizes: list[int]) -> list[int]:
    budgets = [int(weight * total) for weight in weights]
    rest = total - sum(budgets)
    heir = weights.index(max(weights) if rest > 0 else min(weights))
    budgets[heir] += rest
    return budgets


def _fractions(weights: list[float], total: int, sizes: list[int]) -> list[int]:
    budgets = [int(weight * total) for weight in weights]
    rest = total - sum(budgets)
    by_fraction = sorted(
        range(len(weights)), key=lambda i: weights[i] * total - budgets[i], reverse=True
    )
    for i in by_fraction:
        if rest > 0 and budgets[i] < sizes[i]:
            budgets[i] += 1
            rest -= 1
    budgets = [min(budget, size) for budget, size in zip(budgets, sizes, strict=True)]
    rest = min(total, sum(sizes)) - sum(budgets)
    while rest > 0:
        for i, size in enumerate(sizes):
            if rest > 0 and budgets[i] < size:
                budgets[i] += 1
                rest -= 1
    return budgets


_RULES: dict[str, Callable[[list[float], int, list[int]], list[int]]] = {
    "largest_weight": _largest_weight,
    "fractions": _fractions,
}
