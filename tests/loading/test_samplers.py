from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.utils.data import Dataset

from presel_lightning.loading.padding import pad
from presel_lightning.loading.samplers import (
    BlockSampler,
    GlobalBatchSampler,
    ResumableLoader,
    even_blocks,
    length_grouped,
    token_blocks,
)

sizes = st.integers(1, 60)


@given(n=sizes, size=st.integers(1, 9), seed=st.integers(0, 5), world=st.integers(1, 4))
def test_global_batches_are_partitioned_over_ranks(
    n: int, size: int, seed: int, world: int
) -> None:
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


@given(n=sizes, size=st.integers(1, 12), micro=st.integers(1, 5), world=st.integers(1, 3))
def test_micro_batches_sum_to_the_same_global_batches(
    n: int, size: int, micro: int, world: int
) -> None:
    lengths = np.arange(n) % 7
    epoch = length_grouped(lengths, size, 0, 0)
    samplers = [GlobalBatchSampler(lengths, size, 0, rank, world, micro) for rank in range(world)]
    per_step = samplers[0].passes
    parts = [list(sampler) for sampler in samplers]
    assert all(len(part) == len(epoch) * per_step == len(samplers[0]) for part in parts)
    for step, batch in enumerate(epoch):
        passes = [p for part in parts for p in part[step * per_step : (step + 1) * per_step]]
        assert all(1 <= len(rows) <= micro for rows in passes)
        rows = [row for rows in passes for row, weight in rows if weight]
        assert sorted(rows) == sorted(batch.tolist())


@given(
    n_images=st.integers(0, 60),
    n_texts=st.integers(0, 60),
    size=st.integers(1, 9),
    world=st.integers(1, 3),
    epoch=st.integers(0, 2),
)
def test_length_grouped_batches_hold_images_or_texts(
    n_images: int, n_texts: int, size: int, world: int, epoch: int
) -> None:
    n = n_images + n_texts
    lengths = np.arange(n) % 7
    batches = length_grouped(lengths, size, 0, epoch, n_texts)
    assert sorted(np.concatenate([np.arange(0), *batches]).tolist()) == list(range(n))
    assert len(batches) == -(-n // size) and all(0 < len(batch) <= size for batch in batches)
    left_over = n_images % size, n_texts % size
    mixed = [len({row >= n_images for row in batch.tolist()}) == 2 for batch in batches]
    assert not any(mixed[:-1])
    assert any(mixed) == (min(left_over) > 0 and sum(left_over) <= size)
    samplers = [
        GlobalBatchSampler(lengths, size, 0, rank, world, n_texts=n_texts) for rank in range(world)
    ]
    for sampler in samplers:
        sampler.set_epoch(epoch)
        assert len(sampler) == len(batches)
    for batch, parts in zip(batches, zip(*samplers, strict=True), strict=True):
        assert sorted(row for part in parts for row, weight in part if weight) == sorted(batch)


def test_length_grouped_texts_are_shuffled_among_images() -> None:
    batches = length_grouped(np.arange(400), 8, 0, 0, n_texts=120)
    kinds = ["texts" if batch[0] >= 280 else "images" for batch in batches]
    assert 5 < sum(a != b for a, b in pairwise(kinds)), "shuffled, not one after the other"


@given(n=sizes, size=st.integers(1, 12), micro=st.integers(1, 5), world=st.integers(2, 4))
def test_micro_batches_do_not_depend_on_the_world_size(
    n: int, size: int, micro: int, world: int
) -> None:
    assume(micro <= -(-size // world))
    lengths = np.arange(n) % 7

    def computed(world: int) -> list[list[tuple[int, float]]]:
        ranks = [GlobalBatchSampler(lengths, size, 0, rank, world, micro) for rank in range(world)]
        passes = [part for parts in zip(*ranks, strict=True) for part in parts]
        return [part for part in passes if part[0][1]]

    assert computed(world) == computed(1)


def test_global_batch_with_many_ranks_splits_evenly() -> None:
    ranks = [GlobalBatchSampler(np.arange(256), 128, 0, rank, 16, micro=16) for rank in range(16)]
    for sampler in ranks:
        assert [[weight for _, weight in part] for part in sampler] == [[1.0] * 8] * 2


def test_batches_are_random_and_micro_batches_length_grouped() -> None:
    lengths = np.random.default_rng(0).integers(0, 1000, 4000)
    batches = length_grouped(lengths, 40, 0, 0)
    means = [lengths[batch].mean() for batch in batches]
    assert np.std(means) < 1.5 * lengths.std() / 40**0.5  # as of 40 drawn by chance
    spread = [np.ptp(lengths[[row for row, _ in part]]) for part in sampler_of(lengths, 40, 8)]
    assert np.mean(spread) < 0.25 * np.ptp(lengths)
    other = length_grouped(lengths, 40, 0, 1)
    assert [b.tolist() for b in batches] != [b.tolist() for b in other]


def sampler_of(lengths: np.ndarray, size: int, micro: int) -> GlobalBatchSampler:
    return GlobalBatchSampler(lengths, size, 0, 0, 1, micro)


@given(n=st.integers(0, 50), size=st.integers(1, 9), world=st.integers(1, 3), data=st.data())
def test_blocks_do_not_depend_on_the_remaining_blocks(
    n: int, size: int, world: int, data: st.DataObject
) -> None:
    lengths = np.array(data.draw(st.lists(st.integers(1, 90), min_size=n, max_size=n)), dtype=int)
    for blocks in (even_blocks(n, size), token_blocks(lengths, 100, size)):
        numbers = list(range(len(blocks)))
        left = data.draw(st.lists(st.sampled_from(numbers), unique=True)) if numbers else []
        whole = dict(enumerate(BlockSampler(blocks, numbers, 0, 1)))
        served = [b for rank in range(world) for b in BlockSampler(blocks, left, rank, world)]
        assert sorted(served) == sorted(whole[block] for block in left)
        assert sorted(row for block in whole.values() for row, _ in block) == list(range(n))


@given(
    lengths=st.lists(st.integers(1, 500), max_size=40),
    tokens=st.integers(1, 900),
    most=st.integers(1, 9),
)
def test_token_blocks_respect_the_token_limit(lengths: list[int], tokens: int, most: int) -> None:
    for block in token_blocks(np.array(lengths, dtype=int), tokens, most):
        padded = max(lengths[row] for row in block) * len(block)
        assert len(block) == 1 or (padded <= tokens and len(block) <= most)
        assert block.tolist() == sorted(block)


def test_token_blocks_group_equal_lengths() -> None:
    lengths = np.random.default_rng(0).integers(100, 1000, 400)
    blocks = token_blocks(lengths, 4000, 32)
    padded = sum(len(block) * lengths[block].max() for block in blocks)
    assert padded < 1.05 * lengths.sum()


class Numbers(Dataset[int]):
    def __len__(self) -> int:
        return 23

    def __getitem__(self, row: tuple[int, float]) -> int:
        return row[0]


def loader() -> ResumableLoader:
    return ResumableLoader(Numbers(), batch_sampler=GlobalBatchSampler(np.ones(23), 4, 0, 0, 1))


def test_loader_state_dict_resumes_within_the_epoch() -> None:
    whole = [batch.tolist() for batch in loader()]
    first = loader()
    begun = iter(first)
    seen = [next(begun).tolist() for _ in range(2)]
    second = loader()
    second.load_state_dict(first.state_dict())
    assert seen + [batch.tolist() for batch in second] == whole
    assert [batch.tolist() for batch in second] == whole  # the next epoch is whole again


def test_pad_left_and_right_fill_the_given_side() -> None:
    assert pad([[1], [2, 3]], 0).tolist() == [[1, 0], [2, 3]]
    assert torch.equal(pad([[1], [2, 3]], 0, left=True), torch.tensor([[0, 1], [2, 3]]))
