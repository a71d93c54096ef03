"""The warning of near copies, against distances written out."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from presel_lightning.functional.near_copies import near_copies
from presel_lightning.selectors import Medoids, SizeBalanced
from presel_lightning.selectors.arrays import ArrayPool, ArraySignals
from presel_lightning.selectors.near_copies import near_copy_warnings


@given(st.integers(2, 25), st.integers(0, 5), st.data())
def test_near_copies_are_those_below_the_median_nearest_distance(
    n: int, seed: int, data: st.DataObject
) -> None:
    rows = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed)).double()
    chosen = data.draw(st.sets(st.integers(0, n - 1)))
    distance = torch.cdist(rows, rows).fill_diagonal_(torch.inf)
    typical = distance.amin(dim=1).median()
    expected = [
        i in chosen and len(chosen) > 1 and min(distance[i, j] for j in chosen - {i}) < typical
        for i in range(n)
    ]
    marks = torch.zeros(n, dtype=torch.bool)
    marks[sorted(chosen)] = True
    assert near_copies(rows, marks, seed=0).tolist() == expected


def test_warning_names_tasks_whose_selection_are_near_copies() -> None:
    """A dense clump in a task of scattered images: the most central images are all of the clump."""
    rng = np.random.default_rng(0)
    scattered, clump = rng.normal(size=(150, 8)), 0.05 * rng.normal(size=(40, 8)) + 3
    features = np.concatenate([scattered, clump]).astype(np.float32)
    pool = ArrayPool(features, np.full(190, "a", dtype=object), np.zeros(190, dtype=bool))
    signals = ArraySignals(features, pool)
    central, medoids = (s.select(pool, signals, 19, seed=0) for s in (SizeBalanced(), Medoids()))
    found = near_copy_warnings(pool, signals, central, seed=0)
    assert len(found) == 1 and "in 1 of 1 tasks" in found[0] and "of 19)" in found[0]
    assert near_copy_warnings(pool, signals, medoids, seed=0) == []
