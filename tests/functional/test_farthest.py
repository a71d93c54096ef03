from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from presel_lightning.functional import farthest, farthest_first


@st.composite
def pools(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    n = draw(st.integers(1, 60))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    rows = normalize(torch.randn(n, 4, generator=generator), dim=1)
    copies = draw(st.integers(0, n // 2))
    rows[:copies] = rows[n - copies :].clone()
    return rows, torch.rand(n, generator=generator) < draw(st.sampled_from([0.0, 0.2]))


def literal(
    rows: Tensor, count: int, chosen: Tensor, first: int
) -> tuple[list[int], dict[int, float]]:
    """Recompute every distance at every pick."""
    vectors = normalize(rows.double(), dim=1).numpy()
    cosine = np.round(vectors @ vectors.T, 10)
    centers = np.flatnonzero(chosen.numpy()).tolist()
    picks: list[int] = []
    distance: dict[int, float] = {}
    for _ in range(count):
        rest = [i for i in range(len(rows)) if i not in centers]
        if centers:
            nearest = [cosine[i, centers].max() for i in rest]
            pick = rest[int(np.argmin(nearest))]
            distance[pick] = float(np.sqrt(2 - 2 * min(nearest)))
        else:
            pick, distance[first] = first, 2.0
        picks.append(pick)
        centers.append(pick)
    return picks, distance


@given(pools(), st.integers(0, 60))
def test_farthest_first_matches_a_literal_greedy_loop(
    pool: tuple[Tensor, Tensor], count: int
) -> None:
    rows, chosen = pool
    count = min(count, int((~chosen).sum()))
    first = len(rows) // 2
    picks, distance = literal(rows, count, chosen, first)
    found = farthest_first(rows, count, chosen, first=first)
    assert found.rows.tolist() == picks
    np.testing.assert_allclose(
        found.distance[found.rows], [distance[pick] for pick in picks], atol=2e-5
    )


def test_farthest_first_with_few_candidates_matches_all_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More rows than candidates, more picks than are pending, and copies."""
    generator = torch.Generator().manual_seed(1)
    rows = normalize(torch.randn(500, 6, generator=generator), dim=1)
    rows[100:200] = rows[:100].clone()
    none = torch.zeros(500, dtype=torch.bool)
    for name, value in (("_CANDIDATES", 32), ("_PENDING", 8), ("_BLOCK", 64)):
        monkeypatch.setattr(f"{farthest_first.__module__}.{name}", value)
    assert farthest_first(rows, 500, none, first=7).rows.tolist() == literal(rows, 500, none, 7)[0]


def test_farthest_first_distance_is_to_the_nearest_pick() -> None:
    rows = normalize(torch.randn(40, 3, generator=torch.Generator().manual_seed(2)), dim=1)
    found: farthest.Farthest = farthest_first(rows, 10)
    rest = torch.ones(40, dtype=torch.bool)
    rest[found.rows] = False
    expected = torch.cdist(rows[rest].double(), rows[found.rows].double()).amin(dim=1)
    torch.testing.assert_close(found.distance[rest], expected, atol=1e-5, rtol=0)


def test_farthest_first_pick_distances_never_increase() -> None:
    rows = normalize(torch.randn(300, 3, generator=torch.Generator().manual_seed(3)), dim=1)
    found = farthest_first(rows, 300)
    assert (found.distance[found.rows].diff() <= 1e-9).all()


def test_farthest_first_count_above_rows_raises_value_error() -> None:
    with pytest.raises(ValueError, match="at most 1"):
        farthest_first(torch.eye(2), 2, torch.tensor([True, False]))
