from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
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
    even_chunks,
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


def published_chunks(rows: list[int], lengths: list[int], n: int) -> list[list[int]]:
    """LLaVA's chunks, step by step, from what is known of them."""
    if len(rows) % n:
        return [rows[first::n] for first in range(n)]
    chunks: list[list[int]] = [[] for _ in range(n)]

    def total(chunk: list[int]) -> int:
        return sum(lengths[row] for row in chunk)

    for row in rows:
        still_open = [chunk for chunk in chunks if len(chunk) < len(rows) // n]
        min(still_open, key=total).append(row)
    return chunks


@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=60),
    size=st.integers(1, 12),
    micro=st.none() | st.integers(1, 5),
    world=st.integers(1, 4),
    texts=st.integers(0, 20),
    epoch=st.integers(0, 2),
)
def test_balanced_passes_are_llavas_chunks(
    lengths: list[int], size: int, micro: int | None, world: int, texts: int, epoch: int
) -> None:
    """Every device's part of every batch, chunk k of a step on device k % world."""
    options = min(texts, len(lengths)), None
    batches = length_grouped(np.array(lengths), size, 3, epoch, *options)
    ranks = [
        GlobalBatchSampler(np.array(lengths), size, 3, rank, world, micro, *options, balanced=True)
        for rank in range(world)
    ]
    for sampler in ranks:
        sampler.set_epoch(epoch)
    per_step = ranks[0].passes
    served = [list(sampler) for sampler in ranks]
    assert all(len(passes) == len(batches) * per_step == len(ranks[0]) for passes in served)
    for step, batch in enumerate(batches):
        for number, chunk in enumerate(published_chunks(batch.tolist(), lengths, per_step * world)):
            found = served[number % world][step * per_step + number // world]
            assert found == [(row, 1.0) for row in chunk] or (not chunk and found[0][1] == 0)
            assert len(found) <= (micro or size)


def test_balanced_devices_get_like_total_lengths() -> None:
    """The share of answers in a device's mean is the same everywhere; slices part them by length."""
    lengths = np.random.default_rng(0).lognormal(4, 1, 128 * 30).astype(int) + 1

    def totals(balanced: bool) -> np.ndarray:
        """Words of each device in each step, over their mean."""
        ranks = [GlobalBatchSampler(lengths, 128, 0, r, 8, 16, balanced=balanced) for r in range(8)]
        words = np.array([[sum(lengths[row] for row, _ in p) for p in rank] for rank in ranks])
        shares: np.ndarray = words / words.mean(axis=0)  # (8, 30)
        return shares

    assert np.ptp(totals(balanced=True), axis=0).max() < 0.1
    assert np.median(np.ptp(totals(balanced=True), axis=0)) < 0.02
    assert np.ptp(totals(balanced=False), axis=0).min() > 2


@given(
    lengths=st.lists(st.integers(0, 99), min_size=1, max_size=64), n=st.sampled_from([1, 2, 4, 8])
)
def test_even_chunks_hold_equal_numbers_within_the_longest_of_each_other(
    lengths: list[int], n: int
) -> None:
    lengths = lengths[: len(lengths) // n * n]
    order = np.argsort(-np.array(lengths, dtype=int), kind="stable")
    chunks = even_chunks(order, np.array(lengths, dtype=int), n)
    assert sorted(np.concatenate(chunks).tolist()) == list(range(len(lengths)))
    assert {len(chunk) for chunk in chunks} == {len(lengths) // n}
    totals = [sum(lengths[row] for row in chunk) for chunk in chunks]
    assert max(totals) - min(totals) <= max(lengths, default=0)


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


weights = st.lists(st.floats(0, 9), min_size=1, max_size=40).filter(any)


@given(
    chances=weights,
    n_texts=st.integers(0, 9),
    size=st.integers(1, 9),
    world=st.integers(1, 3),
    epoch=st.integers(0, 2),
)
def test_drawn_epoch_matches_one_generator_on_any_number_of_ranks(
    chances: list[float], n_texts: int, size: int, world: int, epoch: int
) -> None:
    n, p = len(chances), np.array(chances)
    known = np.random.default_rng([5, epoch]).choice(n, n, p=p / p.sum())
    lengths = np.arange(n + n_texts) % 7
    samplers = [
        GlobalBatchSampler(lengths, size, 5, rank, world, n_texts=n_texts, chances=p)
        for rank in range(world)
    ]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    served = [row for sampler in samplers for part in sampler for row, weight in part if weight]
    assert sorted(row for row in served if row < n) == sorted(known)
    assert sorted(row for row in served if row >= n) == list(range(n, n + n_texts))
    assert len({len(sampler) for sampler in samplers}) == 1
    assert len(samplers[0]) == len(GlobalBatchSampler(lengths, size, 5, 0, world))


def test_cluster_of_weight_3_is_drawn_three_times_as_often_as_weight_1() -> None:
    """In one epoch on two ranks; a sample of weight 0 is never drawn."""
    chances = np.repeat([3.0, 1.0, 0.0], [6000, 6000, 6000])
    ranks = [
        GlobalBatchSampler(np.ones(18_000), 64, 0, rank, 2, chances=chances) for rank in (0, 1)
    ]
    served = np.array([row for rank in ranks for part in rank for row, weight in part if weight])
    heavy, light, never = (
        int(((served >= a) & (served < a + 6000)).sum()) for a in (0, 6000, 12000)
    )
    assert never == 0 and heavy + light == 18_000
    deviation = (18_000 * 0.75 * 0.25) ** 0.5
    assert abs(heavy - 0.75 * 18_000) < 4 * deviation
    # single samples too, as often as a Poisson count varies
    counts = np.bincount(served[served < 6000], minlength=6000)
    assert counts.mean() == pytest.approx(2.25, abs=0.05)
    assert counts.var() == pytest.approx(2.25, rel=0.1)


def test_drawn_epochs_differ_and_repeat_by_number() -> None:
    sampler = GlobalBatchSampler(np.ones(50), 8, 0, 0, 1, chances=np.arange(1.0, 51))
    epochs = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
    assert epochs[0] == epochs[2] != epochs[1]


class Numbers(Dataset[int]):
    def __len__(self) -> int:
        return 23

    def __getitem__(self, row: tuple[int, float]) -> int:
        return row[0]


def loader(chances: np.ndarray | None) -> ResumableLoader:
    sampler = GlobalBatchSampler(np.ones(23), 4, 0, 0, 1, chances=chances)
    return ResumableLoader(Numbers(), batch_sampler=sampler)


@pytest.mark.parametrize("chances", [None, np.arange(23.0)], ids=["once each", "drawn"])
def test_loader_state_dict_resumes_within_the_epoch(chances: np.ndarray | None) -> None:
    whole = [batch.tolist() for batch in loader(chances)]
    first = loader(chances)
    begun = iter(first)
    seen = [next(begun).tolist() for _ in range(2)]
    second = loader(chances)
    second.load_state_dict(first.state_dict())
    assert seen + [batch.tolist() for batch in second] == whole
    assert [batch.tolist() for batch in second] == whole  # the next epoch is whole again


def test_pad_left_and_right_fill_the_given_side() -> None:
    assert pad([[1], [2, 3]], 0).tolist() == [[1, 0], [2, 3]]
    assert torch.equal(pad([[1], [2, 3]], 0, left=True), torch.tensor([[0, 1], [2, 3]]))
