"""Ward's clusters against scipy's on all rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster.hierarchy import linkage

from presel_lightning.functional.ward import cut_at, in_order, ward_labels, weighted_ward


@given(seed=st.integers(0, 10**6), n=st.integers(2, 40))
def test_weighted_ward_of_single_rows_is_scipys(seed: int, n: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(n, 3))
    ours, theirs = weighted_ward(rows, np.ones(n)), linkage(rows, "ward")
    np.testing.assert_allclose(ours[:, 2], theirs[:, 2], rtol=1e-8)
    for cut in (0.1, 0.3, 0.7):
        assert in_order(cut_at(ours, cut)).tolist() == in_order(cut_at(theirs, cut)).tolist()


@given(seed=st.integers(0, 10**6), copies=st.lists(st.integers(1, 4), min_size=2, max_size=9))
def test_weighted_ward_of_sizes_links_as_that_many_equal_rows(seed: int, copies: list[int]) -> None:
    points = np.random.default_rng(seed).normal(size=(len(copies), 2))
    whole = linkage(np.repeat(points, copies, axis=0), "ward")
    heights = whole[whole[:, 2] > 1e-9, 2]  # after the equal rows are together
    np.testing.assert_allclose(weighted_ward(points, np.array(copies))[:, 2], heights, rtol=1e-8)


def test_ward_labels_by_micro_clusters_are_those_of_all_rows() -> None:
    """Where groups are far apart."""
    rng = np.random.default_rng(0)
    centers = 10 * rng.normal(size=(6, 4))
    rows = (np.repeat(centers, 50, axis=0) + 0.01 * rng.normal(size=(300, 4))).astype(np.float32)
    rows = rows[rng.permutation(300)]
    exact = ward_labels(rows, 0.05, seed=0)
    assert exact.max() == 5
    assert ward_labels(rows, 0.05, seed=0, exact=100, micro=40).tolist() == exact.tolist()


@pytest.mark.parametrize("n", [0, 1])
def test_ward_labels_of_too_few_rows_are_one_cluster(n: int) -> None:
    assert ward_labels(np.ones((n, 2)), 0.1, seed=0).tolist() == [0] * n
