from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.optimize import linprog

from presel_lightning.functional.cluster_influence import (
    ClusterUtility,
    categories,
    cluster_utilities,
    knapsack,
    scaled_from_zero,
)


def test_cluster_utility_is_the_mean_with_its_standard_error() -> None:
    utility, labels = np.array([1.0, 2, 6, -4, 0]), np.array([0, 0, 0, 2, 1])
    found = cluster_utilities(utility, labels, 4, None, 0)
    assert found.size.tolist() == [3, 1, 1, 0]
    assert found.mean.tolist() == [3, 0, -4, 0]
    assert found.error[0] == pytest.approx(np.std([1, 2, 6], ddof=1) / 3**0.5)
    assert np.isinf(found.error[1:3]).all()


def test_sample_of_members_is_drawn_by_seed() -> None:
    utility = np.random.default_rng(0).normal(size=200)
    labels = np.zeros(200, dtype=np.int64)
    one, same, other = (cluster_utilities(utility, labels, 1, 20, seed) for seed in (0, 0, 1))
    assert one.mean == same.mean != other.mean and one.size == [200]
    assert one.error[0] == pytest.approx(1 / 20**0.5, rel=0.5)


def test_clusters_are_harmful_or_beneficial_beyond_their_error_and_the_threshold() -> None:
    mean = np.array([-3.0, -3, -1, 0, 1, 2, 2])
    error = np.array([0.1, 2, 0.1, 0.1, 0.1, 0.1, np.inf])
    found = ClusterUtility(mean, error, np.full(7, 5))  # the median size of a utility is 2
    assert categories(found, 0.5, 0.5, 2).tolist() == [-1, 0, 0, 0, 0, 1, 0]
    assert categories(found, 1.0, 1.0, 0).tolist() == [-1, -1, 0, 0, 0, 0, 0]  # strict
    assert categories(found, 0.001, 0.01, 0, absolute=True).tolist() == [-1, -1, -1, 0, 1, 1, 1]


def test_utilities_are_scaled_between_zero_and_the_extremes() -> None:
    assert scaled_from_zero(np.array([2.0, 4])).tolist() == [0.5, 1]
    assert scaled_from_zero(np.array([-4.0, -2])).tolist() == [0, 0.5]
    assert scaled_from_zero(np.array([-1.0, 0, 3])).tolist() == [0, 0.25, 1]
    assert scaled_from_zero(np.zeros(2)).tolist() == [0, 0]


@example([(1.0, 13), (1.0, 13), (1.0, 1)], 46, 2.5)
@given(
    clusters=st.lists(st.tuples(st.floats(-3, 3), st.integers(1, 20)), min_size=1, max_size=8),
    budget=st.integers(0, 120),
    most=st.sampled_from([1.0, 2.5, 5.0]),
)
def test_knapsack_solves_the_linear_program(
    clusters: list[tuple[float, int]], budget: int, most: float
) -> None:
    utility, size = np.array([u for u, _ in clusters]), np.array([n for _, n in clusters])
    weights = knapsack(utility, size, budget, most)
    assert (weights >= 0).all() and (weights <= most).all()
    assert weights @ size <= budget + 1e-9
    best = linprog(-utility * size, A_ub=[size], b_ub=[budget], bounds=(0, most))
    assert weights @ (utility * size) == pytest.approx(-best.fun, abs=1e-6)
