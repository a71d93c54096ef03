"""Integer budgets from weights under capacities, and the task sizes of a reference split."""

import torch
from torch import Tensor

# Quotas closer than this are equal. Float noise of the weights (1e-16 of a quota of up to 1e8) stays
# below it, and a fraction of a sample that matters stays above.
_RESOLUTION = 1e-6


def allocate(weights: Tensor, capacities: Tensor, total: int) -> Tensor:
    r"""Allocate a budget by weight under capacities, by the largest-remainder method.

    The quota of entry i is :math:`q_i = \text{total} \cdot w_i / \sum_j w_j`. An entry whose quota
    reaches its capacity is clipped at its capacity, and the remainder is re-allocated among the
    others. After rounding down, the remaining units go, one each, to the largest fractional parts;
    ties go to the lower index.

    Args:
        weights: (M,) finite and not negative. Entries of weight 0 get a share (in equal parts)
            only when every entry of positive weight is at its capacity.
        capacities: (M,) integers, not negative.
        total: Units to allocate.

    Returns:
        (M,) int64 that sums to ``min(total, sum(capacities))``.

    Raises:
        ValueError: Shapes differ, or an argument is negative or not finite.

    Source: the rounding of PreSel Eq. 5-6, which the paper does not specify.

    >>> allocate(torch.tensor([0.5, 0.3, 0.2]), torch.tensor([2, 9, 9]), 7)
    tensor([2, 3, 2])
    """
    weights, capacities = weights.double(), capacities.long()
    _check(weights, capacities, total)
    result = torch.zeros_like(capacities)
    left = min(total, int(capacities.sum()))
    for entries, shares in (
        (weights > 0, weights),
        (weights == 0, torch.ones_like(weights)),
    ):
        here = torch.where(entries, capacities, 0)
        part = min(left, int(here.sum()))
        result += _split(torch.where(entries, shares, 0.0), here, part)
        left -= part
    return result


def proportional_split(sizes: Tensor, total: int, minimum: int = 1) -> Tensor:
    """Compute the task sizes of a stratified sample with a minimum per task.

    Largest remainder in proportion to ``sizes``. A task whose share is below ``minimum`` gets
    ``minimum`` (or its whole size), and the others share the remainder.

    Args:
        sizes: (M,) images of each task.
        total: Size of the sample.
        minimum: Smallest size of a task in the sample.

    Returns:
        (M,) int64 that sums to ``min(total, sum(sizes))``; none above its size.

    Raises:
        ValueError: ``total`` cannot give every task its minimum.

    >>> proportional_split(torch.tensor([97, 2, 1]), 10)
    tensor([8, 1, 1])
    """
    sizes = sizes.long()
    floor = sizes.clamp(max=minimum)
    if total < int(floor.sum()):
        raise ValueError(
            f"{total} cannot give each of {len(sizes)} tasks at least {minimum}: "
            f"{int(floor.sum())} are needed"
        )
    raised = torch.zeros_like(sizes, dtype=torch.bool)
    while True:
        rest = total - int(floor[raised].sum())
        open_sizes = torch.where(raised, 0, sizes)
        result = torch.where(raised, floor, allocate(open_sizes, open_sizes, rest))
        short = result < floor
        if not short.any():
            return result
        raised |= short


def _check(weights: Tensor, capacities: Tensor, total: int) -> None:
    if weights.shape != capacities.shape or weights.dim() != 1:
        raise ValueError(
            f"expected weights and capacities of one shape (M,), got {tuple(weights.shape)} "
            f"and {tuple(capacities.shape)}"
        )
    if not (weights.isfinite() & (weights >= 0)).all():
        raise ValueError(f"expected finite weights >= 0, got {weights.tolist()}")
    if (capacities < 0).any() or total < 0:
        raise ValueError(f"expected no negative capacity or total, got {total}")


def _split(weights: Tensor, capacities: Tensor, total: int) -> Tensor:
    """`allocate` among positive weights only; ``total`` fits into the capacities."""
    if total == 0:
        return torch.zeros_like(capacities)
    margin = min(_RESOLUTION, 0.5 / len(weights))  # so that whole parts never sum above the total
    full = weights == 0  # these have capacity 0 here
    while not full.all():
        open_weights = torch.where(full, 0.0, weights)
        shares = open_weights / open_weights.max()  # in [0, 1], so that no sum overflows
        rest = total - int(capacities[full].sum())
        quotas = rest * (shares / shares.sum())  # (M,)
        over = ~full & (quotas >= capacities - margin)
        if not over.any():
            return torch.where(full, capacities, _round(quotas, full, rest, margin))
        full |= over
    return capacities


def _round(quotas: Tensor, full: Tensor, total: int, margin: float) -> Tensor:
    """Round quotas to integers that sum to ``total``, largest fractions first."""
    whole = (quotas + margin).floor().long()
    fraction = torch.where(full, -1.0, ((quotas - whole) / _RESOLUTION).round())
    first = torch.argsort(fraction, descending=True, stable=True)[: total - int(whole.sum())]
    whole[first] += 1
    return whole
