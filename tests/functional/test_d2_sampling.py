from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch.nn.functional import normalize

from presel_lightning.functional import d2_sample


def test_draws_follow_the_squared_distances_to_what_was_selected() -> None:
    rows = normalize(torch.randn(8, 3, generator=torch.Generator().manual_seed(3)), dim=1)
    selected = torch.tensor([True] + [False] * 7)
    drawn = Counter(int(d2_sample(rows, 1, selected, seed=seed).rows[0]) for seed in range(4000))
    mass = np.square(rows[1:].double().numpy() - rows[0].double().numpy()).sum(axis=1)
    observed = [drawn[row] for row in range(1, 8)]
    assert chisquare(observed, 4000 * mass / mass.sum()).pvalue > 1e-3


@given(st.integers(1, 30), st.integers(0, 10**6), st.data())
def test_distances_are_those_to_the_rows_before(n: int, seed: int, data: st.DataObject) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = normalize(torch.randn(n, 4, generator=generator).double(), dim=1)
    rows[: n // 3] = rows[n - n // 3 :].clone()
    selected = torch.rand(n, generator=generator) < 0.2
    count = data.draw(st.integers(0, int((~selected).sum())))
    found = d2_sample(rows, count, selected, seed=seed)
    before = selected.nonzero()[:, 0].tolist()
    for row in found.rows.tolist():
        assert row not in before
        near = min((float((rows[row] - rows[other]).norm()) for other in before), default=2.0)
        assert float(found.distance[row]) == pytest.approx(near, abs=1e-5)
        before.append(row)


def test_copies_are_drawn_last() -> None:
    rows = torch.eye(4).repeat_interleave(3, dim=0)
    assert sorted(d2_sample(rows, 4, seed=0).rows.div(3, rounding_mode="floor").tolist()) == [
        0,
        1,
        2,
        3,
    ]
    assert len(set(d2_sample(rows, 12, seed=0).rows.tolist())) == 12


def test_more_rows_than_there_are_is_an_error() -> None:
    with pytest.raises(ValueError, match="at most 4"):
        d2_sample(torch.eye(4), 5, seed=0)
