"""Leverage scores against the singular vectors of the whole table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from presel_lightning.functional import leverage
from presel_lightning.functional.leverage import leverage_scores


@given(seed=st.integers(0, 10**6), n=st.integers(3, 30), energy=st.floats(0.3, 0.99))
def test_leverage_scores_in_blocks_are_those_of_the_singular_vectors(
    seed: int, n: int, energy: float
) -> None:
    rows = np.random.default_rng(seed).normal(size=(n, 5)) * [1, 2, 3, 4, 5]
    table = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    left, values, _ = np.linalg.svd(table, full_matrices=False)
    share = np.cumsum(values**2) / (values**2).sum()
    k = int(np.argmax(share >= energy)) + 1
    before, leverage.BLOCK = leverage.BLOCK, 4
    try:
        found = leverage_scores(np.vstack([rows, rows]), np.arange(n), energy)
    finally:
        leverage.BLOCK = before
    np.testing.assert_allclose(found, (left[:, :k] ** 2).sum(axis=1), rtol=1e-6, atol=1e-9)
    assert found.sum() == pytest.approx(k)


def test_leverage_scores_of_equal_rows_are_0() -> None:
    assert leverage_scores(np.ones((4, 3)), np.arange(4)).tolist() == [0, 0, 0, 0]
