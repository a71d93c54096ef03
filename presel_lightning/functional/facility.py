"""Facility location: rows that are, together, as similar as possible to all rows."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

_BLOCK = 1024


class Facilities(NamedTuple):
    """Result of `facility_location`."""

    rows: Tensor
    """(b,) int64, the picks in their order."""
    gain: Tensor
    """(N,) float64: of a pick its gain when it was picked, of others what they would gain now."""


def facility_location(
    features: Tensor,
    n_picks: int,
    taken: Tensor | None = None,
    *,
    seed: int,
    epsilon: float = 0.1,
) -> Facilities:
    r"""Pick rows greedily by how much they raise the mean similarity of all rows to the nearest.

    .. math:: f(S) = \frac{1}{N} \sum_i \max\bigl(0, \max_{j \in S} \cos(x_i, x_j)\bigr)

    Each pick is the best of :math:`\lceil (N / b) \ln(1 / \epsilon) \rceil` random rows (stochastic
    greedy), which reaches :math:`1 - 1/e - \epsilon` of the optimum in expectation. Cost is
    :math:`N^2 D \ln(1 / \epsilon)` for any number of picks, and as much again once for the gains;
    memory is a block of 1024 rows by N.

    Args:
        features: (N, D) of a float dtype.
        n_picks: b, at most the rows that are not taken.
        taken: (N,) bool, rows that belong to S from the start and are never picked.
        seed: Seed of the random rows.
        epsilon: 0 compares all rows at each pick: the greedy algorithm.

    Returns:
        `Facilities`: picks and gains; the gain of a taken row is 0.

    Source: Mirzasoleiman et al., "Lazier Than Lazy Greedy", AAAI 2015, Algorithm 1.

    >>> rows = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.8, 0.2]])
    >>> facility_location(rows, 2, seed=0, epsilon=0).rows
    tensor([3, 2])
    """
    vectors = normalize(features.float(), dim=1)  # (N, D)
    n = len(vectors)
    taken = torch.zeros(n, dtype=torch.bool) if taken is None else taken
    covered = torch.zeros(n)  # similarity of each row to its nearest in S
    for some in taken.nonzero()[:, 0].split(_BLOCK) if taken.any() else ():
        covered = torch.maximum(covered, (vectors @ vectors[some].T).amax(dim=1))
    free = ~taken
    n_picks = min(n_picks, int(free.sum()))
    size = math.ceil(n / max(n_picks, 1) * math.log(1 / epsilon)) if epsilon else n
    generator = torch.Generator().manual_seed(seed)
    gain = torch.zeros(n, dtype=torch.float64)
    picks: list[int] = []
    for _ in range(n_picks):
        left = free.nonzero()[:, 0]
        if size < len(left):
            left = left[torch.randint(len(left), (size,), generator=generator).unique()]
        gains = _gains(vectors, left, covered)
        best = int(gains.argmax())  # the first of equal ones
        pick = int(left[best])
        gain[pick] = gains[best]
        covered = torch.maximum(covered, vectors @ vectors[pick])
        free[pick] = False
        picks.append(pick)
    rest = free.nonzero()[:, 0]
    gain[rest] = _gains(vectors, rest, covered)
    return Facilities(torch.tensor(picks, dtype=torch.int64), gain)


def _gains(vectors: Tensor, candidates: Tensor, covered: Tensor) -> Tensor:
    """Gain in mean similarity of each candidate, (c,) float64; gains equal to 1e-9 tie."""
    gains = [
        (vectors[some] @ vectors.T).sub_(covered).clamp_(min=0).double().mean(dim=1)
        for some in candidates.split(_BLOCK)
    ]
    return torch.cat([torch.empty(0, dtype=torch.float64), *gains]).round(decimals=9)
