from fractions import Fraction

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from presel_lightning.functional import allocate, proportional_split


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[int], list[int], int]:
    size = draw(st.integers(1, 12))
    weights = draw(st.lists(st.integers(0, 50), min_size=size, max_size=size))
    capacities = draw(st.lists(st.integers(0, 40), min_size=size, max_size=size))
    return weights, capacities, draw(st.integers(0, 300))


def by_fractions(weights: list[int], capacities: list[int], total: int) -> list[int]:
    """The rule in exact arithmetic, one entry after another."""
    given_out = [0] * len(weights)
    total = min(total, sum(capacities))
    for level in (
        [Fraction(w) for w in weights],
        [Fraction(int(w == 0)) for w in weights],
    ):
        active = {i for i, w in enumerate(level) if w > 0}
        rest = min(total - sum(given_out), sum(capacities[i] for i in active))
        while active:
            mass = sum(level[i] for i in active)
            quota = {i: rest * level[i] / mass for i in sorted(active)}
            filled = [i for i in quota if quota[i] >= capacities[i]]
            if not filled:
                break
            for i in filled:
                given_out[i] = capacities[i]
                rest -= capacities[i]
                active.remove(i)
        for i in active:
            given_out[i] = int(quota[i])
        missing = rest - sum(given_out[i] for i in active)
        by_remainder = sorted(active, key=lambda i: (-(quota[i] - int(quota[i])), i))
        for i in by_remainder[:missing]:
            given_out[i] += 1
    return given_out


@given(problems())
def test_allocate_matches_exact_fraction_arithmetic(
    problem: tuple[list[int], list[int], int],
) -> None:
    weights, capacities, total = problem
    expected = by_fractions(weights, capacities, total)
    assert allocate(torch.tensor(weights), torch.tensor(capacities), total).tolist() == expected


@given(problems(), st.sampled_from([0.1, 1 / 3, 7.0, 1e-9, 1e12]))
def test_allocate_is_invariant_to_weight_scale(
    problem: tuple[list[int], list[int], int], scale: float
) -> None:
    weights, capacities, total = problem
    scaled = allocate(torch.tensor(weights).double() * scale, torch.tensor(capacities), total)
    assert (
        scaled.tolist() == allocate(torch.tensor(weights), torch.tensor(capacities), total).tolist()
    )


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=200), st.integers(0, 10**8), st.integers(0, 99)
)
def test_allocate_meets_the_total_and_capacities(
    weights: list[float], total: int, salt: int
) -> None:
    generator = torch.Generator().manual_seed(salt)
    capacities = torch.randint(0, 10**6, (len(weights),), generator=generator)
    result = allocate(torch.tensor(weights, dtype=torch.float64), capacities, total)
    assert result.sum() == min(total, int(capacities.sum()))
    assert (result >= 0).all() and (result <= capacities).all()


@given(problems())
def test_allocate_is_monotone_in_the_weight(problem: tuple[list[int], list[int], int]) -> None:
    weights, capacities, total = problem
    given_out = allocate(torch.tensor(weights), torch.tensor(capacities), total).tolist()
    entries = list(zip(weights, capacities, given_out, strict=True))
    for weight, capacity, got in entries:
        for other_weight, other_capacity, other_got in entries:
            if weight > other_weight and capacity >= other_capacity:
                assert got >= other_got


def test_allocate_zero_weight_gets_only_the_remainder() -> None:
    weights, capacities = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([5, 4, 4])
    assert allocate(weights, capacities, 5).tolist() == [5, 0, 0]
    assert allocate(weights, capacities, 8).tolist() == [5, 2, 1]


def test_allocate_ignores_floating_point_noise() -> None:
    noisy = torch.tensor([0.3, 0.1 + 0.2, 0.3], dtype=torch.float64)
    assert allocate(noisy, torch.tensor([9, 9, 9]), 4).tolist() == [2, 1, 1]
    tenths = torch.full((10,), 0.1, dtype=torch.float64)
    assert allocate(tenths, torch.full((10,), 1000), 1000).tolist() == [100] * 10


@pytest.mark.parametrize("weights", [[-1.0, 2.0], [torch.nan, 1.0], [torch.inf, 1.0]])
def test_allocate_invalid_weights_raise_value_error(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="finite weights"):
        allocate(torch.tensor(weights), torch.tensor([1, 1]), 1)


def test_allocate_negative_total_raises_value_error() -> None:
    with pytest.raises(ValueError, match="negative"):
        allocate(torch.ones(2), torch.tensor([1, 1]), -1)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=15), st.integers(1, 2000))
def test_proportional_split_covers_every_task(sizes: list[int], total: int) -> None:
    assume(total >= len(sizes))
    split = proportional_split(torch.tensor(sizes), total)
    assert split.sum() == min(total, sum(sizes))
    assert (split >= 1).all() and (split <= torch.tensor(sizes)).all()


def test_proportional_split_of_large_tasks_is_proportional() -> None:
    sizes = torch.tensor([333, 500, 167])
    assert proportional_split(sizes, 50).tolist() == allocate(sizes, sizes, 50).tolist()
    assert proportional_split(torch.tensor([980, 10, 10]), 50).tolist() == [48, 1, 1]


def test_proportional_split_below_one_per_task_raises() -> None:
    with pytest.raises(ValueError, match="3 are needed"):
        proportional_split(torch.tensor([5, 5, 5]), 2)
