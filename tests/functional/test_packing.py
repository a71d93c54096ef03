"""Packing against first-fit-decreasing written as two loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from presel_lightning.functional.packing import next_fit, pack_sequences


def first_fit_decreasing(lengths: list[int], capacity: int) -> list[list[int]]:
    rows: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        for row in rows:
            if sum(lengths[i] for i in row) + lengths[place] <= capacity:
                row.append(place)
                break
        else:
            rows.append([place])
    return rows


@given(lengths=st.lists(st.integers(1, 25), max_size=60), capacity=st.integers(1, 20))
def test_packed_rows_are_those_of_first_fit_decreasing(lengths: list[int], capacity: int) -> None:
    rows = pack_sequences(np.array(lengths, dtype=np.int64), capacity)
    assert [row.tolist() for row in rows] == first_fit_decreasing(lengths, capacity)


@given(lengths=st.lists(st.integers(1, 25), min_size=1, max_size=60), capacity=st.integers(1, 20))
def test_next_fit_over_packed_rows_gives_the_same_rows(lengths: list[int], capacity: int) -> None:
    sizes = np.array(lengths)
    rows = pack_sequences(sizes, capacity)
    again = next_fit(sizes[np.concatenate(rows)], capacity)
    assert again.tolist() == [number for number, row in enumerate(rows) for _ in row]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("capacity", [2048, 4096])
def test_mixed_lengths_fill_rows_to_99_percent(seed: int, capacity: int) -> None:
    """Texts, captions, questions and interleaved documents, 144 tokens an image."""
    rng = np.random.default_rng(seed)
    texts = rng.lognormal(4.5, 0.8, 1000).astype(int) + 8
    captions = 144 + rng.integers(8, 80, 1000)
    questions = 144 + rng.lognormal(5, 0.7, 1000).astype(int)
    documents = 144 * rng.integers(1, 8, 300) + rng.integers(100, 900, 300)
    lengths = np.minimum(np.concatenate([texts, captions, questions, documents]), capacity)
    rows = pack_sequences(lengths, capacity)
    assert sorted(np.concatenate(rows).tolist()) == list(range(len(lengths)))
    assert max(lengths[row].sum() for row in rows) <= capacity
    assert len(rows) <= 1.01 * -(-int(lengths.sum()) // capacity)


@pytest.mark.parametrize(("lengths", "capacity"), [([0, 3], 4), ([3], 0)])
def test_packing_refuses_what_has_no_length(lengths: list[int], capacity: int) -> None:
    with pytest.raises(ValueError, match="1 or more"):
        pack_sequences(np.array(lengths), capacity)
