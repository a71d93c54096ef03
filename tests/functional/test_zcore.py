from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest, triang
from torch import Tensor

from presel_lightning.functional import draw_points, zcore


def literal(rows: Tensor, points: tuple[Tensor, Tensor], neighbors: int) -> np.ndarray:
    """Every row at every sampled point, in sampling order."""
    x = rows.numpy()
    score = np.zeros(len(x))
    for dims, place in zip(points[0].numpy(), points[1].numpy().astype(np.float32), strict=True):
        nearest = int(np.abs(x[:, dims] - place).sum(axis=1).argmin())
        score[nearest] += 1
        distance = np.abs(x[:, dims] - x[nearest, dims]).sum(axis=1).astype(np.float64)
        others = np.delete(np.arange(len(x)), nearest)
        if len(others) == 0:
            continue
        last = np.sort(distance[others])[:neighbors][-1]
        others = others[distance[others] <= last]
        zero = others[distance[others] == 0]
        if len(zero):
            score[zero] -= 1 / len(zero)
        else:
            weight = (distance[others] / distance[others].min()) ** -4.0
            score[others] -= weight / weight.sum()
    score -= score.min()
    return score / (score.max() or 1.0)


@given(st.integers(1, 120), st.integers(1, 40), st.integers(0, 10**6), st.booleans())
def test_zcore_matches_a_literal_loop(n: int, neighbors: int, seed: int, copies: bool) -> None:
    rows = torch.randn(n, 4, generator=torch.Generator().manual_seed(seed))
    if copies:
        rows[: n // 3] = rows[n - n // 3 :].clone()
    points = draw_points(rows, 30, seed)
    expected = literal(rows, points, neighbors)
    np.testing.assert_allclose(zcore(rows, points, neighbors), expected, atol=1e-9)


@pytest.mark.parametrize("neighbors", [1, 50])
def test_zcore_of_concentrated_rows_matches_a_literal_loop(neighbors: int) -> None:
    """Most rows in one spot along each dimension, so that the first strip misses some."""
    rows = torch.randn(3000, 3, generator=torch.Generator().manual_seed(0)) ** 5
    points = draw_points(rows, 200, 0)
    expected = literal(rows, points, neighbors)
    np.testing.assert_allclose(zcore(rows, points, neighbors), expected, atol=1e-9)


def test_draw_points_are_triangular_around_the_median() -> None:
    rows = torch.tensor([[0.0, -1.0], [1.0, 0.0], [4.0, 9.0]])
    dimensions, places = draw_points(rows, 4000, 0)
    assert (dimensions[:, 0] != dimensions[:, 1]).all()
    for dimension, (low, mode, high) in enumerate([(0, 1, 4), (-1, 0, 9)]):
        drawn = places[dimensions == dimension].numpy()
        law = triang((mode - low) / (high - low), loc=low, scale=high - low)
        assert kstest(drawn, law.cdf).pvalue > 0.01


def test_draw_points_of_constant_dimension_equal_its_value() -> None:
    _, places = draw_points(torch.ones(5, 2), 10, 0)
    assert (places == 1).all()
    assert (zcore(torch.ones(5, 2), draw_points(torch.ones(5, 2), 10, 0)) >= 0).all()
