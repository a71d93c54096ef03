"""COINCIDE's rules and spherical k-means against literal loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from presel_lightning.functional import spherical
from presel_lightning.functional.coincide import (
    closest_subset,
    cluster_quotas,
    cluster_shares,
    gaussian_kernel,
    transferability,
)
from presel_lightning.functional.spherical import spherical_kmeans


@given(seed=st.integers(0, 10**6), n=st.integers(1, 8))
def test_kernel_and_transferability_equal_their_sums(seed: int, n: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(n, 3))
    kernel, found = gaussian_kernel(rows), transferability(rows)
    for i in range(n):
        for j in range(n):
            expected = math.exp(-sum((rows[i] - rows[j]) ** 2) / 2)
            assert kernel[i, j] == pytest.approx(expected, rel=1e-9)
        lengths = [math.sqrt(sum(row**2)) for row in rows]
        cosines = [sum(rows[i] * rows[j]) / lengths[i] / lengths[j] for j in range(n) if j != i]
        kept = [value for value in cosines if value <= 0.9]
        assert found[i] == pytest.approx(sum(kept) / len(kept) if kept else 0.0, abs=1e-9)


def test_cluster_shares_follow_transferability_over_density() -> None:
    shares = cluster_shares(np.array([0.2, 0.1]), np.array([0.5, 1.0]), 0.1)
    assert shares[0] / shares[1] == pytest.approx(math.exp(0.2 / 0.05 - 0.1 / 0.1))


@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6),
    seed=st.integers(0, 10**6),
    budget=st.integers(0, 40),
)
def test_cluster_quotas_meet_the_budget_within_sizes(
    sizes: list[int], seed: int, budget: int
) -> None:
    shares = np.random.default_rng(seed).dirichlet(np.ones(len(sizes)))
    quota = cluster_quotas(shares, np.array(sizes), budget)
    assert quota.sum() == min(budget, sum(sizes)) and (quota <= sizes).all()


def test_cluster_quotas_pass_on_what_a_cluster_cannot_hold() -> None:
    # 8 of 10, of which 2 fit; then 8 * 0.15 / 0.2; then the rest
    quota = cluster_quotas(np.array([0.15, 0.8, 0.05]), np.array([9, 2, 9]), 10)
    assert quota.tolist() == [6, 2, 2]


@given(seed=st.integers(0, 10**6), n=st.integers(1, 9), picks=st.integers(1, 9))
def test_closest_subset_minimizes_the_discrepancy_at_every_pick(
    seed: int, n: int, picks: int
) -> None:
    rng = np.random.default_rng(seed)
    kernel = gaussian_kernel(rng.normal(size=(n, 2)))
    allowed = rng.random(n) < 0.8
    picks = min(picks, int(allowed.sum()))
    chosen: list[int] = []
    for row in closest_subset(kernel, allowed, picks).tolist():
        costs = {}
        for candidate in np.flatnonzero(allowed).tolist():
            if candidate not in chosen:
                subset = [*chosen, candidate]
                costs[candidate] = (
                    kernel.mean()
                    + kernel[np.ix_(subset, subset)].mean()
                    - 2 * kernel[:, subset].mean()
                )
        assert costs[row] == pytest.approx(min(costs.values()), abs=1e-9)
        chosen.append(row)
    assert len(chosen) == picks


def test_spherical_kmeans_in_blocks_separates_directions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 60)
    rows = (np.eye(3)[label] + 0.05 * rng.normal(size=(60, 3))).astype(np.float16)
    rows *= rng.uniform(0.5, 3, (60, 1)).astype(np.float16)  # lengths do not matter
    places = np.arange(60)
    whole = min(
        (spherical_kmeans(rows, places, 3, seed=s) for s in range(5)),
        key=lambda f: -cosines(rows, f),
    )
    pairs = {*zip(label.tolist(), whole.labels.tolist(), strict=True)}
    assert len(pairs) == 3
    monkeypatch.setattr(spherical, "BLOCK", 7)
    seed = next(
        s for s in range(5) if cosines(rows, spherical_kmeans(rows, places, 3, seed=s)) > 59
    )
    again = spherical_kmeans(rows, places, 3, seed=seed)
    assert len({*zip(label.tolist(), again.labels.tolist(), strict=True)}) == 3


def cosines(rows: np.ndarray, found: spherical.Spherical) -> float:
    """What the search maximizes."""
    unit = rows.astype(float) / np.linalg.norm(rows.astype(float), axis=1, keepdims=True)
    return float((unit * found.centroids.numpy()[found.labels.numpy()]).sum())


def test_spherical_kmeans_with_as_many_clusters_as_rows_gives_each_its_own() -> None:
    rows = np.eye(4, dtype=np.float32)
    found = spherical_kmeans(rows, np.array([0, 2, 3]), 9, seed=0)
    assert sorted(found.labels.tolist()) == [0, 1, 2]
