from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from presel_lightning.functional.learning_curve import power_law, spend

TASKS = st.lists(
    st.tuples(
        st.floats(0, 5),  # loss before training
        st.floats(0, 2),  # slope
        st.floats(0, 9),  # samples there already
        st.integers(0, 12),  # samples left
    ),
    min_size=1,
    max_size=6,
)


def brute_force(tasks: list[tuple[float, float, float, int]], budget: int) -> list[int]:
    """Each sample to the largest fall of the loss, the first of equals."""
    given = [0] * len(tasks)
    for _ in range(budget):
        gains = []
        for (start, slope, begun, free), n in zip(tasks, given, strict=True):
            now = begun + n
            fall = start * ((1 + now) ** -slope - (2 + now) ** -slope)
            gains.append(fall if n < free else -math.inf)
        best = max(range(len(tasks)), key=lambda task: (gains[task], -task))
        if gains[best] == -math.inf:
            break
        given[best] += 1
    return given


@given(TASKS, st.integers(0, 60))
def test_spend_matches_a_greedy_loop_over_tasks(
    tasks: list[tuple[float, float, float, int]], budget: int
) -> None:
    columns = [torch.tensor(c, dtype=torch.float64) for c in zip(*tasks, strict=True)]
    start, slope, begun, free = columns
    found = spend(start, slope, begun, free, budget)
    assert found.dtype == torch.int64
    assert found.tolist() == brute_force(tasks, budget)
    assert int(found.sum()) == min(budget, sum(task[3] for task in tasks))


@given(st.floats(0.01, 10), st.floats(0.05, 1.95), st.floats(0.5, 500))
def test_power_law_recovers_the_slope(start: float, slope: float, n: float) -> None:
    after = start * (1 + n) ** -slope
    tensors = [torch.tensor([value], dtype=torch.float64) for value in (start, after, n)]
    assert power_law(*tensors).item() == pytest.approx(slope, rel=1e-6)


def test_power_law_clips_invalid_slopes() -> None:
    nan, inf = math.nan, math.inf
    start = torch.tensor([1.0, 1.0, 1.0, nan, 1.0, 0.0, 1.0, 2.0])
    after = torch.tensor([2.0, 1.0, 0.0, 1.0, nan, 1.0, inf, 1.0])
    n = torch.tensor([4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 0.001])
    # rises; flat; nothing left; unknown twice; began at nothing; blew up; too steep
    assert power_law(start, after, n).tolist() == [0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 2.0]


def test_spend_allocates_to_a_flat_curve_last() -> None:
    start, slope = torch.tensor([9.0, 1.0]), torch.tensor([0.0, 0.5])
    begun, free = torch.tensor([3.0, 3.0]), torch.tensor([10.0, 4.0])
    assert spend(start, slope, begun, free, 6).tolist() == [2, 4]
