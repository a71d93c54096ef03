"""Packed batches against rows written out token by token."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from presel_lightning.functional.token_loss import IGNORE
from presel_lightning.loading.packing import packed
from presel_lightning.loading.padding import labelled_text
from presel_lightning.loading.samplers import GlobalBatchSampler
from presel_lightning.loading.tokens import Encoded


def padded(lengths: list[int]) -> dict[str, Any]:
    """Sample k holds 100 k + 1, 100 k + 2, ...; all of it is an answer."""
    ids = [[100 * k + i for i in range(1, n + 1)] for k, n in enumerate(lengths, start=1)]
    return labelled_text([Encoded(row, row) for row in ids], pad_id=0)


def test_packed_rows_hold_one_sample_behind_another() -> None:
    blank = {"pixel_values": torch.zeros(1)}  # of a batch of texts
    batch = {**padded([3, 2, 4]), "pixel_values": torch.arange(3), "blank": blank}
    found = packed(batch, 6)
    assert found["input_ids"].tolist() == [[101, 102, 103, 201, 202], [301, 302, 303, 304, 0]]
    assert found["sample"].tolist() == [[0, 0, 0, 1, 1], [2, 2, 2, 2, -1]]
    assert found["position_ids"].tolist() == [[0, 1, 2, 0, 1], [0, 1, 2, 3, 0]]
    first = [IGNORE, 102, 103, IGNORE, 202]
    assert found["labels"].tolist() == [first, [IGNORE, 302, 303, 304, IGNORE]]
    assert torch.equal(found["pixel_values"], batch["pixel_values"])
    assert "attention_mask" not in found and found["blank"] is blank


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=12), capacity=st.integers(9, 20))
def test_packed_rows_keep_every_token_and_the_capacity(lengths: list[int], capacity: int) -> None:
    batch = padded(lengths)
    found = packed(batch, capacity)
    assert found["input_ids"].shape[1] <= capacity
    for number, length in enumerate(lengths):
        own = found["sample"] == number
        assert own.any(dim=1).sum() == 1
        assert found["input_ids"][own].tolist() == batch["input_ids"][number, :length].tolist()
        assert found["position_ids"][own].tolist() == list(range(length))


@pytest.mark.parametrize(("world", "micro"), [(1, None), (1, 3), (2, None), (2, 3), (3, 2)])
def test_packed_passes_hold_each_sample_once_and_like_numbers_of_rows(
    world: int, micro: int | None
) -> None:
    lengths = np.random.default_rng(0).integers(5, 60, 50)
    ranks = [
        list(GlobalBatchSampler(lengths, 16, 0, rank, world, micro, capacity=64))
        for rank in range(world)
    ]
    whole = GlobalBatchSampler(lengths, 16, 0, 0, 1).batches(0)
    n_passes = len(ranks[0]) // len(whole)
    for step, batch in enumerate(whole):
        passes = [p for rank in ranks for p in rank[step * n_passes : (step + 1) * n_passes]]
        seen = [row for p in passes for row, weight in p if weight]
        assert sorted(seen) == sorted(batch.tolist())
        sizes = [
            int(packed(padded(lengths[[row for row, _ in p]].tolist()), 64)["sample"].shape[0])
            for p in passes
            if p[0][1]
        ]
        assert max(sizes) - min(sizes) <= 1
