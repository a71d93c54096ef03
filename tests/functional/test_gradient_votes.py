from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from presel_lightning.functional.gradient_votes import (
    influence_over_checkpoints,
    mean_cosines,
    mean_directions,
    softmax_order,
    voted_order,
    votes,
)
from presel_lightning.functional.influence import Gradients


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_mean_cosines_equal_the_whole_table() -> None:
    rows = np.random.default_rng(0).normal(size=(12, 5))
    groups = np.array([0, 0, 0, 1, 1, 3])
    whole = np.array([0, 5])
    directions = mean_directions(Gradients(rows, np.arange(6), whole), groups, 4)
    found = mean_cosines(Gradients(rows, np.arange(12), whole), directions)
    for i in range(12):
        for group in range(4):
            table = [cosine(rows[i], rows[v]) for v in range(6) if groups[v] == group]
            assert abs(found[i, group] - (np.mean(table) if table else 0.0)) < 1e-12


@given(seed=st.integers(0, 100), n=st.integers(1, 9), c=st.integers(1, 4), zero=st.booleans())
def test_influence_over_checkpoints_equals_the_literal_loop(
    seed: int, n: int, c: int, zero: bool
) -> None:
    rng = np.random.default_rng(seed)
    whole, groups = np.array([0, 5]), np.array([0, 0, 1, 0])
    training, validation = rng.normal(size=(c, n, 5)), rng.normal(size=(c, 4, 5))
    rates = np.zeros(c) if zero else rng.uniform(0.1, 2, c)
    given = [
        (
            Gradients(training[k], np.arange(n), whole),
            mean_directions(Gradients(validation[k], np.arange(4), whole), groups, 2),
        )
        for k in range(c)
    ]
    found = influence_over_checkpoints(given, rates)
    weights = [1.0 / c] * c if zero else [rate / sum(rates) for rate in rates]
    for i in range(n):
        for t in range(2):
            expected = 0.0
            for k in range(c):
                own = [cosine(training[k, i], validation[k, v]) for v in range(4) if groups[v] == t]
                expected += weights[k] * sum(own) / len(own)
            assert abs(found[i, t] - expected) < 1e-12
    if c == 1:  # to the bit
        assert found.tobytes() == mean_cosines(*given[0]).tobytes()


def test_equal_gradients_have_equal_cosines_and_votes_in_any_place() -> None:
    rng = np.random.default_rng(0)
    rows = Gradients(np.tile(rng.normal(size=300), (7, 1)), np.arange(7), np.array([0, 300]))
    found = mean_cosines(rows, rng.normal(size=(1, 300)))
    assert len(np.unique(found)) == 1 and votes(found, 0.2).tolist() == [1] * 7


def test_zero_gradients_agree_with_nothing() -> None:
    rows = np.zeros((2, 3))
    given = Gradients(rows, np.arange(2), np.array([0, 3]))
    assert not mean_cosines(given, mean_directions(given, np.array([0, 0]), 1)).any()


@given(seed=st.integers(0, 100), n=st.integers(1, 30), share=st.sampled_from([0.1, 0.2, 0.5]))
def test_votes_count_tasks_whose_percentile_is_reached(seed: int, n: int, share: float) -> None:
    influence = np.random.default_rng(seed).integers(0, 9, (n, 3)).astype(float)
    counted = votes(influence, share)
    for i in range(n):
        reached = [influence[i, t] >= np.percentile(influence[:, t], 100 - 100 * share) for t in range(3)]  # fmt: skip
        assert counted[i] == sum(reached)
    order = voted_order(counted, mean := influence.mean(axis=1))
    assert order.tolist() == sorted(range(n), key=lambda i: (-counted[i], -mean[i], i))


def test_softmax_draws_follow_the_chances() -> None:
    values, rng = np.array([0.0, 1.0, 2.0]), np.random.default_rng(0)
    first = [softmax_order(values, 1.5, rng)[0] for _ in range(4000)]
    chances = np.exp(1.5 * values) / np.exp(1.5 * values).sum()
    np.testing.assert_allclose(np.bincount(first) / 4000, chances, atol=0.03)
    assert sorted(softmax_order(values, 0.0, rng)) == [0, 1, 2]
