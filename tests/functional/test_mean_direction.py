from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from presel_lightning.functional import mean_direction

NUMBERS = st.floats(-2, 2, width=32).filter(lambda number: abs(number) > 1e-2)


@given(st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=1, max_size=5))
def test_mean_direction_equals_a_literal_loop(rows: list[list[float]]) -> None:
    total = [0.0, 0.0, 0.0]
    for row in rows:
        norm = math.sqrt(sum(value * value for value in row))
        total = [sum_ + value / norm / len(rows) for sum_, value in zip(total, row, strict=True)]
    norm = math.sqrt(sum(value * value for value in total))
    found = mean_direction(torch.tensor(rows)).tolist()
    if norm > 1e-3:
        assert found == pytest.approx([value / norm for value in total], abs=1e-4)


def test_mean_direction_keeps_half_precision_and_one_row() -> None:
    row = torch.tensor([[0.6, 0.8]], dtype=torch.float16)
    found = mean_direction(row)
    assert found.dtype == torch.float16 and torch.equal(found, row[0])
