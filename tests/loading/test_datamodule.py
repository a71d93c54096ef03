from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presel_lightning.data import load_pool
from presel_lightning.errors import UserError
from presel_lightning.loading.datamodule import SelectionDataModule, count_of
from tests.conftest import SIZES


@pytest.mark.parametrize(
    ("size", "count"), [(0.15, 72), (1, 480), (1.0, 480), (2, 2), (480, 480), (0.001, 1)]
)
def test_count_of_converts_fraction_or_count(size: float, count: int) -> None:
    assert count_of(size, 480, "data.budget") == count


@given(st.one_of(st.floats(max_value=0), st.floats(min_value=1.001), st.integers(481)))
def test_count_of_invalid_size_raises_user_error(size: float) -> None:
    with pytest.raises(UserError, match=r"data\.budget"):
        count_of(size, 480, "data.budget")


def test_split_reference_is_proportional_to_task_sizes(finished: Path, pool_folder: Path) -> None:
    data = SelectionDataModule(str(pool_folder / "train.json"), reference=0.2, budget=0.5)
    data.pool = load_pool(finished, pool_folder)
    drawn = data.split_reference(0)
    counts = Counter(data.pool.task[data.pool.rows(drawn)])
    assert sum(counts.values()) == len(set(drawn)) == round(0.2 * sum(SIZES.values()))
    assert all(abs(counts[task] - 0.2 * size) < 1 for task, size in SIZES.items())
    assert data.split_reference(0).tolist() == drawn.tolist()
    assert data.split_reference(1).tolist() != drawn.tolist()
