"""Picks by a heap, and neighbors by blocks, against literal loops."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from presel_lightning.functional import neighbors as module
from presel_lightning.functional.greedy import pick_and_lower
from presel_lightning.functional.neighbors import nearest_neighbors


@given(seed=st.integers(0, 10**6), n=st.integers(2, 25), k=st.integers(1, 4))
def test_pick_and_lower_equals_a_search_at_every_pick(seed: int, n: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 6, n) / 4  # with ties
    neighbors = np.stack([rng.choice(n, min(k, n), replace=False) for _ in range(n)])
    factors = rng.uniform(0, 1.5, neighbors.shape)
    current, left, expected = values.astype(float).copy(), list(range(n)), []
    for _ in range(n):
        row = max(left, key=lambda r: (current[r], -r))
        left.remove(row)
        expected.append(row)
        for other, factor in zip(neighbors[row], factors[row], strict=True):
            if other in left and current[row] > 0:
                current[other] -= factor * current[row]
    assert pick_and_lower(values, neighbors, factors, n).tolist() == expected


@given(seed=st.integers(0, 10**6), n=st.integers(1, 30), k=st.integers(1, 5))
def test_nearest_neighbors_in_blocks_are_those_of_the_whole_table(
    seed: int, n: int, k: int
) -> None:
    features = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))
    unit = torch.nn.functional.normalize(features, dim=1)
    near = unit @ unit.T
    near.fill_diagonal_(-torch.inf)
    expected = near.sort(dim=1, descending=True)
    before = module._ROWS, module._COLUMNS
    module._ROWS, module._COLUMNS = 4, 7
    try:
        rows, cosines = nearest_neighbors(features, k)
    finally:
        module._ROWS, module._COLUMNS = before
    k = min(k, n - 1)
    assert rows.shape == (n, k)
    torch.testing.assert_close(cosines, expected.values[:, :k])
    torch.testing.assert_close(near.gather(1, rows), expected.values[:, :k])
