"""Samples to batches: training rows by global batch, prediction rows by fixed block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from presel_lightning.functional.packing import pack_sequences
from presel_lightning.loading.loader import Loader

Row = tuple[int, float]
"""Place of a sample in its dataset, and its weight (0 only fills a batch up)."""

Blocks = list[np.ndarray]
"""Rows of each block, ascending; every row of the list is in one."""


def length_grouped(
    lengths: np.ndarray,
    size: int,
    seed: int,
    epoch: int,
    n_texts: int = 0,
    chances: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Cut a shuffled epoch into global batches, the longest sample of each first.

    What is together in a batch is chance; its order lets a forward pass hold samples of like
    length. Where some are text-only, a batch holds either these or images, and what is left over of
    both comes last: in one batch if it fits, as LLaVA has it, else in two. So there are never more
    batches than samples need.

    Depends on nothing but its arguments, so every rank and every resumed run sees the same.

    Args:
        lengths: (N,) length of each sample, in any unit.
        size: samples of a batch.
        seed: of the order.
        epoch: is added to the seed.
        n_texts: how many of the samples, at the end, are text-only.
        chances: (N - n_texts,) draw as many of the others as there are, with replacement, each time
            in proportion to these; without them each comes once, as every text does.

    Source: LLaVA-1.5's `group_by_modality_length`, whose megabatch is a global batch.
    """
    rng = np.random.default_rng([seed, epoch])
    n_images = len(lengths) - n_texts
    order = rng.permutation(n_images) if chances is None else draws(rng, chances)
    batches = _cut(order, size)
    rest: list[np.ndarray] = []
    if n_texts:
        texts = _cut(n_images + rng.permutation(n_texts), size)
        rest = [part.pop() for part in (batches, texts) if part and len(part[-1]) < size]
        batches += texts
        if 0 < sum(map(len, rest)) <= size:
            rest = [np.concatenate(rest)]
    shuffled = [batches[i] for i in rng.permutation(len(batches))] + rest
    return [batch[np.argsort(-lengths[batch], kind="stable")] for batch in shuffled]


def draws(rng: np.random.Generator, chances: np.ndarray) -> np.ndarray:
    """Draw as many rows as there are, with replacement, in proportion to their chances (N,)."""
    n = len(chances)
    drawn: np.ndarray = rng.choice(n, size=n, p=chances / chances.sum())
    return drawn


def _cut(order: np.ndarray, size: int) -> list[np.ndarray]:
    return [order[start : start + size] for start in range(0, len(order), size)]


def even_chunks(batch: np.ndarray, lengths: np.ndarray, n: int) -> list[np.ndarray]:
    """Split a batch into chunks of like total length.

    Each sample in turn goes to the chunk with the smallest total so far, of equal ones the first;
    a chunk that holds its n-th part of the batch is closed. A batch that n does not divide is
    dealt out in turn.

    Args:
        batch: (B,) rows, the longest first.
        lengths: (N,) length of each sample, in any unit.
        n: number of chunks.

    Returns:
        n chunks, each with the longest first; empty ones where the batch has fewer rows.

    Source: LLaVA-1.5's length-grouped sampler.
    """
    if len(batch) % n:
        return [batch[start::n] for start in range(n)]
    chunks: list[list[int]] = [[] for _ in range(n)]
    totals = np.zeros(n)
    for row in batch.tolist():
        place = int(totals.argmin())
        chunks[place].append(row)
        totals[place] += lengths[row]
        if len(chunks[place]) == len(batch) // n:
            totals[place] = np.inf
    return [np.array(chunk, dtype=np.int64) for chunk in chunks]


def packed_parts(batch: np.ndarray, lengths: np.ndarray, capacity: int, n: int) -> list[np.ndarray]:
    """Pack a batch into rows, and deal the rows out to n passes as evenly as they go.

    Args:
        batch: (B,) samples.
        lengths: (N,) tokens of each sample.
        capacity: tokens of a row.
        n: number of passes.

    Returns:
        Samples of each pass, row by row; none where there are fewer rows than passes.
    """
    rows = [batch[row] for row in pack_sequences(lengths[batch], capacity)]
    shares = np.array_split(np.arange(len(rows)), n)
    empty = batch[:0]
    return [np.concatenate([empty, *(rows[row] for row in share)]) for share in shares]


class GlobalBatchSampler(Sampler[list[Row]]):
    """Global batches, cut into passes, of which this rank takes every `world`-th.

    The passes of a step are the same on any number of ranks if `micro` is given, as long as there
    is one for each, so that what is computed in a pass, in whatever precision, is the same too.
    Every global batch is as many passes on every rank, whatever it holds; what has no row left gets
    one of weight 0.

    A pass is a slice of the batch, so that it holds samples of like length and little padding.
    With `balanced` it is one of LLaVA's chunks instead (`even_chunks`), a mix of all lengths: where
    each pass has a loss of its own, its rows decide what a sample weighs. LLaVA too cuts a batch
    into as many chunks as all ranks take passes in a step.

    With a `capacity` a pass holds whole packed rows of the batch, their samples one after the other:
    as many rows as any other pass, or one less.

    Args:
        lengths: (N,) length of each sample, in any unit; in tokens if they are packed.
        size: samples in a global batch, over all ranks.
        seed: of the order; the epoch is added to it.
        rank: place of this process.
        world: number of processes.
        micro: rows of a forward pass, and no more than each rank's equal part of the batch, which
            they are without it.
        n_texts: how many of the samples, at the end, are text-only.
        chances: draw an epoch with replacement; see `length_grouped`.
        balanced: make passes of like total length instead of like samples.
        capacity: tokens of a packed row.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        size: int,
        seed: int,
        rank: int,
        world: int,
        micro: int | None = None,
        n_texts: int = 0,
        chances: np.ndarray | None = None,
        *,
        balanced: bool = False,
        capacity: int | None = None,
    ) -> None:
        self.lengths, self.size, self.seed, self.n_texts = lengths, size, seed, n_texts
        self.chances, self.balanced, self.capacity = chances, balanced, capacity
        self.rank, self.world = rank, world
        self.micro = min(micro, n_blocks(size, world)) if micro else None
        self.passes = passes(size, world, micro)
        self.epoch = 0
        self.skip = 0

    @property
    def sampler(self) -> GlobalBatchSampler:
        """Itself: Lightning calls `batch_sampler.sampler.set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Passes in an epoch."""
        return n_blocks(len(self.lengths), self.size) * self.passes

    def __iter__(self) -> Iterator[list[Row]]:
        """This rank's passes of each global batch."""
        skip, self.skip = self.skip, 0
        for batch in self.batches(self.epoch)[skip:]:
            for rows in self._parts(batch)[self.rank :: self.world]:
                yield [(int(row), 1.0) for row in rows] or [(int(batch[0]), 0.0)]

    def batches(self, epoch: int) -> list[np.ndarray]:
        """Global batches of an epoch, over all ranks."""
        return length_grouped(self.lengths, self.size, self.seed, epoch, self.n_texts, self.chances)

    def _parts(self, batch: np.ndarray) -> list[np.ndarray]:
        """Rows of each pass of a batch, those of all ranks in turn."""
        n = self.passes * self.world
        if self.balanced:
            return even_chunks(batch, self.lengths, n)
        if self.capacity:
            return packed_parts(batch, self.lengths, self.capacity, n)
        micro = self.micro or n_blocks(len(batch), self.world)
        return [batch[number * micro : (number + 1) * micro] for number in range(n)]


def passes(size: int, world: int, micro: int | None) -> int:
    """Forward passes that a device needs for its part of a global batch."""
    share = n_blocks(size, world)
    return n_blocks(share, micro or share)


class ResumableLoader(Loader):
    """A loader whose place in the epoch goes into the training checkpoint."""

    batch_sampler: GlobalBatchSampler
    _given = 0

    def __iter__(self) -> Any:  # noqa: ANN401 - torch's private iterator type
        """Count the passes handed out."""
        self._given = self.batch_sampler.skip * self.batch_sampler.passes
        for batch in super().__iter__():
            self._given += 1
            yield batch

    def tasks(self, epoch: int, number: int) -> list[str]:
        """Tasks of a global batch, by its number in an epoch; none where the data set has none."""
        name = getattr(self.dataset, "task", None)
        batches = self.batch_sampler.batches(epoch)
        if name is None or number >= len(batches):
            return []
        return sorted({name(int(row)) for row in batches[number]})

    def state_dict(self) -> dict[str, int]:
        """How many global batches of this epoch have been handed out."""
        given = self._given % len(self.batch_sampler)
        return {"given": given // self.batch_sampler.passes}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Start the next epoch after that many global batches."""
        self.batch_sampler.skip = state["given"]


class BlockSampler(Sampler[list[Row]]):
    """Blocks of rows fixed by the list alone: what is left to do never changes a block.

    Args:
        blocks: rows of every block.
        pending: numbers of the blocks that are not on disk yet.
        rank: place of this process, which takes every `world`-th pending block.
        world: number of processes.
    """

    def __init__(self, blocks: Blocks, pending: Sequence[int], rank: int, world: int) -> None:
        self.blocks = blocks
        self.pending = list(pending)[rank::world]

    def __len__(self) -> int:
        """Blocks of this rank."""
        return len(self.pending)

    def __iter__(self) -> Iterator[list[Row]]:
        """Rows of each block."""
        for number in self.pending:
            yield [(int(row), 1.0) for row in self.blocks[number]]


def even_blocks(n_rows: int, size: int) -> Blocks:
    """Cut a list into blocks of `size` rows, in its order."""
    rows = np.arange(n_rows)
    return [rows[start : start + size] for start in range(0, n_rows, size)]


def token_blocks(lengths: np.ndarray, tokens: int, most: int) -> Blocks:
    """Cut a list into blocks of rows of like length that cost alike, padding included.

    Depends on nothing but its arguments. The longest come first, so that a block too large for
    the memory shows at once.

    Args:
        lengths: (N,) tokens of each row.
        tokens: of a block, padded to its longest row; a longer row gets a block of its own.
        most: rows of a block.
    """
    order = np.argsort(-lengths, kind="stable")
    blocks, start = [], 0
    while start < len(order):
        size = min(most, max(1, tokens // max(1, int(lengths[order[start]]))))
        blocks.append(np.sort(order[start : start + size]))
        start += size
    return blocks


def n_blocks(n_rows: int, size: int) -> int:
    """How many blocks a list has."""
    return -(-n_rows // size)
