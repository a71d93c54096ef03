from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Dataset

from presel_lightning.data.batches import (
    BlockSampler,
    GlobalBatchSampler,
    ResumableLoader,
    length_grouped,
    pad,
)

sizes = st.integers(1, 60)


@given(n=sizes, size=st.integers(1, 9), seed=st.integers(0, 5), world=st.integers(1, 4))
def test_ranks_share_every_global_batch(n: int, size: int, seed: int, world: int) -> None:
    lengths = np.arange(n) % 7
    epoch = length_grouped(lengths, size, seed, 1)
    samplers = [GlobalBatchSampler(lengths, size, seed, rank, world) for rank in range(world)]
    for sampler in samplers:
        sampler.set_epoch(1)
    for batch, parts in zip(epoch, zip(*samplers, strict=True), strict=True):
        rows = [row for part in parts for row, weight in part if weight]
        assert sorted(rows) == sorted(batch.tolist())
        assert all(part for part in parts)  # no rank is left without a row
    assert sorted(np.concatenate(epoch).tolist()) == list(range(n))
    assert all(len(sampler) == len(epoch) for sampler in samplers)


def test_batches_hold_like_lengths_and_epochs_differ() -> None:
    lengths = np.random.default_rng(0).integers(0, 1000, 400)
    batches = length_grouped(lengths, 8, 0, 0)
    spread = np.mean([np.ptp(lengths[batch]) for batch in batches])
    assert spread < 0.2 * np.ptp(lengths)
    other = length_grouped(lengths, 8, 0, 1)
    assert [b.tolist() for b in batches] != [b.tolist() for b in other]


@given(n=st.integers(0, 50), size=st.integers(1, 9), world=st.integers(1, 3), data=st.data())
def test_blocks_do_not_depend_on_what_is_left(
    n: int, size: int, world: int, data: st.DataObject
) -> None:
    blocks = list(range(-(-n // size)))
    left = data.draw(st.lists(st.sampled_from(blocks), unique=True)) if blocks else []
    whole = dict(enumerate(BlockSampler(n, size, blocks, 0, 1)))
    served = [b for rank in range(world) for b in BlockSampler(n, size, left, rank, world)]
    assert sorted(served) == sorted(whole[block] for block in left)


class Numbers(Dataset[int]):
    def __len__(self) -> int:
        return 23

    def __getitem__(self, row: tuple[int, float]) -> int:
        return row[0]


def loader() -> ResumableLoader:
    return ResumableLoader(Numbers(), batch_sampler=GlobalBatchSampler(np.ones(23), 4, 0, 0, 1))


def test_loader_goes_on_where_it_was() -> None:
    whole = [batch.tolist() for batch in loader()]
    first = loader()
    begun = iter(first)
    seen = [next(begun).tolist() for _ in range(2)]
    second = loader()
    second.load_state_dict(first.state_dict())
    assert seen + [batch.tolist() for batch in second] == whole
    assert [batch.tolist() for batch in second] == whole  # the next epoch is whole again


def test_padding_sides() -> None:
    assert pad([[1], [2, 3]], 0).tolist() == [[1, 0], [2, 3]]
    assert torch.equal(pad([[1], [2, 3]], 0, left=True), torch.tensor([[0, 1], [2, 3]]))
