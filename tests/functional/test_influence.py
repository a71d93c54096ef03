from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from presel_lightning.functional import influence
from presel_lightning.functional.cluster_influence import categories, cluster_utilities
from presel_lightning.functional.influence import Gradients, fisher
from tests.functional.label_flips import accuracy, fit, gradients, make_toy

GROUPS = np.array([0, 3, 4, 12])


def drawn(seed: int, n: int) -> tuple[Gradients, np.ndarray]:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n + 5, 12)) * rng.uniform(0.1, 3, 12)
    return Gradients(rows, rng.permutation(n + 5)[:n], GROUPS), rng.normal(size=12)


def literal_datainf(given: Gradients, wanted: np.ndarray, damping: np.ndarray) -> np.ndarray:
    """Influence of each sample by the loops of the equation, sample by sample and layer by layer."""
    rows = given.rows[given.places]
    found = np.zeros(len(rows))
    for layer, (a, b) in enumerate(itertools.pairwise(GROUPS)):
        v, h = wanted[a:b], np.zeros(b - a)
        for row in rows:
            g = row[a:b]
            h += (v - (v @ g) / (damping[layer] + g @ g) * g) / (len(rows) * damping[layer])
        for number, row in enumerate(rows):
            found[number] -= h @ row[a:b]
    return found


@given(seed=st.integers(0, 1000), n=st.integers(1, 40))
def test_datainf_equals_the_loop_over_samples_and_layers(seed: int, n: int) -> None:
    given, wanted = drawn(seed, n)
    damping = influence.damping_of(given)
    utility = influence.utilities(given, influence.datainf(given, wanted, damping))
    expected = literal_datainf(given, wanted, damping)
    np.testing.assert_allclose(-utility, expected, rtol=1e-6, atol=1e-9)


def test_streaming_in_small_blocks_gives_the_same_direction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given, wanted = drawn(0, 33)
    damping = influence.damping_of(given)
    whole = [estimate(given, wanted, damping) for estimate in influence.ESTIMATORS.values()]
    monkeypatch.setattr(influence, "BLOCK", 7)
    for name, expected in zip(influence.ESTIMATORS, whole, strict=True):
        found = influence.ESTIMATORS[name](given, wanted, influence.damping_of(given))
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_damping_is_a_tenth_of_the_mean_square_of_each_layer() -> None:
    given, _ = drawn(1, 20)
    rows = given.rows[given.places]
    expected = [0.1 * (rows[:, a:b] ** 2).mean() for a, b in ((0, 3), (3, 4), (4, 12))]
    np.testing.assert_allclose(influence.damping_of(given), expected)


def test_layer_without_gradients_has_a_finite_direction() -> None:
    given, wanted = drawn(1, 20)
    given.rows[:, :3] = 0
    for name, estimate in influence.ESTIMATORS.items():
        found = estimate(given, wanted, influence.damping_of(given))
        assert np.isfinite(found).all(), name


def test_exact_sketch_equals_a_dense_solve() -> None:
    given, wanted = drawn(2, 30)
    damping = influence.damping_of(given)
    rows = given.rows[given.places]
    moment = rows.T @ rows / len(rows)
    for a, b in ((0, 3), (3, 4), (4, 12)):  # layers are independent of each other
        moment[a:b, :a] = moment[a:b, b:] = 0
    expected = np.linalg.inv(moment + np.diag(np.repeat(damping, np.diff(GROUPS)))) @ wanted
    np.testing.assert_allclose(influence.exact(given, wanted, damping), expected)


def test_lissa_converges_to_the_exact_solution() -> None:
    given, wanted = drawn(3, 30)
    damping = influence.damping_of(given)
    expected = influence.exact(given, wanted, damping)
    apart = [
        np.abs(influence.lissa(given, wanted, damping, steps) - expected).max()
        for steps in (10, 100, 2000)
    ]
    assert apart[0] > apart[1] > apart[2] and apart[2] < 1e-6


def test_fisher_of_full_rank_is_the_damped_inverse_of_the_second_moment() -> None:
    given, wanted = drawn(4, 40)
    rows = given.rows
    found = fisher(rows, 12)
    moment = rows.T @ rows / len(rows)
    assert found.damping == pytest.approx(0.1 * np.trace(moment) / 12)
    expected = np.linalg.solve(moment + found.damping * np.eye(12), wanted)
    np.testing.assert_allclose(found.solve(wanted), expected)


@pytest.mark.parametrize("width", [20, 300])  # dense, and by Lanczos
@pytest.mark.parametrize("tail", ["mean", "next"])
def test_fisher_of_low_rank_keeps_the_largest_eigenpairs_and_one_tail(
    width: int, tail: str
) -> None:
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(60, width)) * np.geomspace(3, 0.1, width)
    values, vectors = np.linalg.eigh(rows.T @ rows / 60)
    rest = values[-5] if tail == "next" else values[:-4].mean()
    found = fisher(rows, 4, tail=tail)
    np.testing.assert_allclose(found.values, values[:-5:-1])
    assert found.tail == pytest.approx(rest)
    kept = np.concatenate([np.full(width - 4, rest), values[-4:]]) + found.damping
    wanted = rng.normal(size=width)
    np.testing.assert_allclose(
        found.solve(wanted), vectors @ (vectors.T @ wanted / kept), rtol=1e-6
    )


def test_fisher_of_no_gradients_is_finite() -> None:
    for rows in (np.zeros((4, 6)), np.zeros((0, 6)), np.zeros((4, 20_000))):
        wanted = np.ones(rows.shape[1])
        np.testing.assert_allclose(fisher(rows, 2).solve(wanted), wanted)


def test_fisher_of_short_gradients_is_that_of_long_ones_scaled() -> None:
    rows = np.random.default_rng(6).normal(size=(50, 600))
    long, short = fisher(rows, 10), fisher(1e-18 * rows, 10)
    np.testing.assert_allclose(short.values, 1e-36 * long.values, rtol=1e-9)
    np.testing.assert_allclose(1e-36 * short.solve(rows[0]), long.solve(rows[0]), rtol=1e-6)


@pytest.mark.parametrize("n", [5, 67])
def test_equal_gradients_have_equal_utilities_in_any_place(n: int) -> None:
    rng = np.random.default_rng(7)
    rows, h = np.tile(rng.normal(size=300), (n, 1)), rng.normal(size=300)
    found = influence.utilities(Gradients(rows, np.arange(n), np.array([0, 300])), h)
    assert len(set(found.tolist())) == 1


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_flipped_clusters_are_pruned_and_the_inverted_sign_ruins_the_model(seed: int) -> None:
    toy = make_toy(seed)
    weights = fit(toy.train)
    rows = gradients(weights, toy.train)
    given = Gradients(rows, np.arange(800), np.array([0, 21]))
    wanted = influence.mean_gradient(
        Gradients(gradients(weights, toy.validation), np.arange(160), np.array([0, 21]))
    )
    operator = fisher(rows, 10)
    utility = influence.utilities(given, operator.solve(wanted))
    clusters = cluster_utilities(utility, toy.cluster, 8, None, 0)
    sign = categories(clusters, 0.0, 0.0, 2.0)
    assert (clusters.mean[:2] < 0).all() and (sign[:2] == -1).all() and (sign[2:] >= 0).all()

    def tested(kept: np.ndarray) -> float:
        return accuracy(fit((toy.train[0][kept], toy.train[1][kept])), toy.test)

    assert 0.7 <= accuracy(weights, toy.test) <= 0.85
    assert tested(sign[toy.cluster] >= 0) >= 0.95
    inverted = categories(clusters._replace(mean=-clusters.mean), 0.0, 0.0, 2.0)
    assert tested(inverted[toy.cluster] >= 0) <= 0.2
    exact = influence.exact(given, wanted, np.array([operator.damping]))
    dense = cluster_utilities(influence.utilities(given, exact), toy.cluster, 8, None, 0)
    assert np.corrcoef(clusters.mean, dense.mean)[0, 1] >= 0.99


@pytest.mark.parametrize("estimator", ["datainf", "exact-sketch", "lissa", "identity"])
def test_flipped_points_have_negative_utility_by_every_estimator(estimator: str) -> None:
    toy = make_toy(0)
    weights = fit(toy.train)
    given = Gradients(gradients(weights, toy.train), np.arange(800), np.array([0, 21]))
    wanted = gradients(weights, toy.validation).mean(axis=0)
    h = influence.ESTIMATORS[estimator](given, wanted, influence.damping_of(given))
    utility = influence.utilities(given, h)
    assert utility[toy.cluster < 2].mean() < 0 < utility[toy.cluster >= 2].mean()
