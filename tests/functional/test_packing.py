"""Packing against first-fit-decreasing written as two loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from presel_lightning.functional.first_fit import first_fit_decreasing
from presel_lightning.functional.packing import next_fit, pack_sequences
from presel_lightning.functional.row_completion import complete_rows


def two_loops(lengths: list[int], capacity: int) -> list[list[int]]:
    rows: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        for row in rows:
            if sum(lengths[i] for i in row) + lengths[place] <= capacity:
                row.append(place)
                break
        else:
            rows.append([place])
    return rows


LENGTHS = st.lists(st.integers(1, 25), max_size=60)
CAPACITY = st.integers(1, 40)


@given(lengths=LENGTHS, capacity=CAPACITY)
def test_first_fit_decreasing_equals_two_loops(lengths: list[int], capacity: int) -> None:
    rows = first_fit_decreasing(np.array(lengths, dtype=np.int64), capacity)
    assert [row.tolist() for row in rows] == two_loops(lengths, capacity)


@given(lengths=LENGTHS, capacity=CAPACITY)
def test_packing_takes_each_sequence_once_and_no_more_rows_than_two_loops(
    lengths: list[int], capacity: int
) -> None:
    sizes = np.array(lengths, dtype=np.int64)
    for pack in (pack_sequences, complete_rows):
        rows = pack(sizes, capacity)
        assert sorted(i for row in rows for i in row.tolist()) == list(range(len(lengths)))
        assert all(len(row) == 1 or sizes[row].sum() <= capacity for row in rows)
        if pack is pack_sequences:
            assert len(rows) <= len(two_loops(lengths, capacity))


@given(lengths=st.lists(st.integers(1, 25), min_size=1, max_size=60), capacity=CAPACITY)
def test_next_fit_over_packed_rows_gives_the_same_rows(lengths: list[int], capacity: int) -> None:
    sizes = np.array(lengths)
    for pack in (first_fit_decreasing, complete_rows):
        rows = pack(sizes, capacity)
        again = next_fit(sizes[np.concatenate(rows)], capacity)
        assert again.tolist() == [number for number, row in enumerate(rows) for _ in row]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("capacity", [2048, 4096])
def test_mixed_lengths_fill_rows_to_99_percent(seed: int, capacity: int) -> None:
    """Captions, questions and interleaved documents, 144 tokens an image."""
    rng = np.random.default_rng(seed)
    captions = 144 + rng.integers(8, 80, 2000)
    questions = 144 + rng.lognormal(5, 0.7, 1500).astype(int)
    documents = 144 * rng.integers(1, 8, 500) + rng.integers(100, 900, 500)
    lengths = np.minimum(np.concatenate([captions, questions, documents]), capacity)
    rows = pack_sequences(lengths, capacity)
    assert sorted(np.concatenate(rows).tolist()) == list(range(len(lengths)))
    assert max(lengths[row].sum() for row in rows) <= capacity
    assert len(rows) <= 1.01 * -(-int(lengths.sum()) // capacity)


@pytest.mark.parametrize(("lengths", "capacity"), [([0, 3], 4), ([3], 0)])
def test_packing_refuses_what_has_no_length(lengths: list[int], capacity: int) -> None:
    with pytest.raises(ValueError, match="1 or more"):
        pack_sequences(np.array(lengths), capacity)
