"""Selection from a table of features alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import presel_lightning
from presel_lightning.errors import UserError
from presel_lightning.selectors import PreSel
from presel_lightning.selectors.arrays import by_features


def table(n: int, d: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


@given(
    n=st.integers(2, 40),
    budget=st.floats(0.01, 1.0) | st.integers(2, 40),
    n_tasks=st.integers(1, 3),
    method=st.sampled_from(by_features()),
    seed=st.integers(0, 3),
    data=st.data(),
)
def test_select_any_method_meets_the_budget_without_excluded_rows(
    n: int, budget: float, n_tasks: int, method: str, seed: int, data: st.DataObject
) -> None:
    if isinstance(budget, int):
        budget = min(budget, n)
    excluded = data.draw(st.sets(st.integers(0, n - 1), max_size=n - 1))
    rows = presel_lightning.select(
        table(n),
        [str(i % n_tasks) for i in range(n)],
        budget=budget,
        method=method,
        seed=seed,
        excluded=np.array(sorted(excluded), dtype=np.int64),
    )
    wanted = budget if isinstance(budget, int) else max(1, round(budget * n))
    assert rows.dtype == np.int64 and rows.tolist() == sorted(set(rows.tolist()))
    assert len(rows) == min(wanted, n - len(excluded)) and not excluded & set(rows.tolist())


@pytest.mark.parametrize("method", [name for name in by_features() if name != "Random"])
def test_select_shuffled_rows_selects_the_same_images(method: str) -> None:
    features, order = table(60), np.random.default_rng(1).permutation(60)
    names = np.array([["a", "b"][i % 2] for i in range(60)])
    rows = presel_lightning.select(features, names, budget=9, method=method)
    shuffled = presel_lightning.select(features[order], names[order], budget=9, method=method)
    assert sorted(order[shuffled]) == rows.tolist()


def test_select_tensors_and_half_precision_select_as_arrays() -> None:
    features = table(50).astype(np.float16)
    mask = torch.zeros(50, dtype=torch.bool)
    mask[:5] = True
    rows = presel_lightning.select(features, budget=8, excluded=np.arange(5))
    from_tensor = presel_lightning.select(torch.from_numpy(features), budget=8, excluded=mask)
    assert rows.tolist() == from_tensor.tolist()
    scaled = presel_lightning.select(features.astype(np.float32) * 4, budget=8, excluded=mask)
    assert rows.tolist() == scaled.tolist()  # rows are L2-normalized


def test_select_nested_lists_select_as_arrays() -> None:
    rows = table(12).tolist()
    assert presel_lightning.select(rows, budget=3).tolist() == (
        presel_lightning.select(np.array(rows), budget=3).tolist()
    )


def test_select_selector_with_options_is_used_as_given() -> None:
    by_size = PreSel(weighting="size", within="random")
    rows = presel_lightning.select(table(40), ["a"] * 30 + ["b"] * 10, budget=8, method=by_size)
    assert (rows < 30).sum() == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": np.zeros((0, 3))}, "give floats"),
        ({"features": np.zeros((5, 3), dtype=np.int64)}, "give floats"),
        ({"features": np.full((5, 3), np.nan)}, "row 0 are not all finite"),
        ({"tasks": ["a"]}, "give one a row"),
        ({"features": [[0.0, 1.0], [1.0]]}, "features is no table"),
        ({"budget": 99}, "budget is 99"),
        ({"budget": "15 %"}, "budget is '15 %'; give a fraction"),
        ({"method": "PreSel"}, "choose from .*Medoids"),
        ({"method": PreSel()}, "needs paired_loss"),
        ({"excluded": np.ones(3, dtype=bool)}, "excluded has shape"),
        ({"excluded": [5]}, "row numbers from 0 to 4"),
    ],
)
def test_select_invalid_input_is_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        presel_lightning.select(**{"features": table(5), "budget": 2, **options})
