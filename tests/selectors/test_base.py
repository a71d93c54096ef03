"""Training weights of a selection: what is refused, and what becomes of them in a later round."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from presel_lightning.errors import UserError
from presel_lightning.loading.datamodule import SelectionDataModule
from presel_lightning.selectors import Random
from presel_lightning.selectors.base import extended
from tests.selectors.pools import Pair
from tests.selectors.weighted import Weighted


def select(pair: Pair, budget: int, selector: Weighted) -> Any:
    data = SelectionDataModule(
        "unused", budget=budget + int(pair[0].reference.sum()), copies="keep"
    )
    data.pool, signals = pair
    return data.select(selector, signals, seed=0)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"pattern": [1.0, -0.5]}, r"a weight of -0\.5 for [0-9a-f]{32} \(\d+ such of 20\)"),
        ({"pattern": [1.0, float("nan")]}, "a weight of nan for"),
        ({"pattern": [float("inf")]}, r"a weight of inf for .* \(20 such of 20\)"),
        ({"pattern": [1e39]}, r"a weight of 1e\+39"),
        ({"pattern": [0.0]}, "a weight of 0 for all 20"),
        ({"missing": 1}, r"weights of shape \(19,\) for 20 selected samples"),
    ],
)
def test_select_with_unusable_weights_raises_user_error_naming_the_selector(
    options: dict[str, Any], fault: str, pair: Pair
) -> None:
    with pytest.raises(UserError, match=f"selector Weighted returned {fault}"):
        select(pair, 20, Weighted(**options))


def test_select_of_no_sample_accepts_no_weight(pair: Pair) -> None:
    assert select(pair, 0, Weighted([0.0])).weights.tolist() == []


@given(budget=st.integers(1, 30), seed=st.integers(0, 3))
def test_extended_selection_keeps_the_weights_of_what_the_method_selects(
    budget: int, seed: int, pair: Pair
) -> None:
    pool, signals = pair
    earlier = Random().select(pool, signals, budget // 2, seed=seed).uids
    selection = Weighted([2.0, 0.0, 5.0]).select(pool, signals, budget, seed=0)
    known = dict(zip(selection.uids, selection.weights, strict=True))
    found = extended(selection, pool, earlier.tolist())
    assert len(found.uids) == budget and set(earlier) <= set(found.uids)
    assert found.weights.tolist() == [known.get(uid, 1.0) for uid in found.uids]
    assert np.array_equal(found.uids, np.sort(found.uids.astype(str)))
