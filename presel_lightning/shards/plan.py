"""Which sample goes into which new shard: known before any is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from presel_lightning.filters.uid_sets import Runs, ranges
from presel_lightning.run.files import replacing
from presel_lightning.shards.index import IndexStage
from presel_lightning.shards.packs import TokenStage, pack_copies

SHARD_BYTES = 3_000_000_000
"""Bytes after which a new shard starts whatever the number of its samples."""


@dataclass(frozen=True)
class Repeat:
    """A sample whose uid stands in the pool before it."""

    uid: tuple[int, int]
    shard: int
    row: int
    first: int  # shard of the one that is kept


def repeats(stage: IndexStage) -> Iterator[Repeat]:
    """Samples whose uid occurred earlier in the order of the pool, range by range of uids."""
    runs = [stage.mapped(number, "sorted") for number in range(len(stage.shards))]
    for low, high in ranges(Runs(runs)):
        parts = [
            (np.array(run[start:stop]), np.full(stop - start, number), start)
            for number, run in enumerate(runs)
            for start, stop in [_within(run, low, high)]
            if start < stop
        ]
        uids, shards = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        rows = np.concatenate(
            [stage.mapped(int(p[1][0]), "order")[p[2] : p[2] + len(p[0])] for p in parts]
        )
        order = np.lexsort((rows, shards, uids["f1"], uids["f0"]))
        uids, shards, rows = uids[order], shards[order], rows[order]
        same = np.zeros(len(uids), bool)
        same[1:] = uids[1:] == uids[:-1]
        first = np.maximum.accumulate(np.where(same, 0, np.arange(len(uids))))
        for place in np.flatnonzero(same).tolist():
            yield Repeat(
                uids[place].item(), int(shards[place]), int(rows[place]), int(shards[first[place]])
            )


def _within(run: np.ndarray, low: int, high: int) -> tuple[int, int]:
    return Runs([run]).slices(low, high)[0]


@dataclass(frozen=True)
class Plan:
    """The new shards: which of all copies, in the order of the pool or shuffled, go into each.

    Args:
        folder: of its arrays.
        starts: first copy of each new shard, and the end.
        offsets: first copy of each old shard, and the end.
        ordered: whether `order.npy` holds the order of the copies.
    """

    folder: Path
    starts: tuple[int, ...]
    offsets: tuple[int, ...]
    ordered: bool

    def copies(self, number: int) -> np.ndarray:
        """Numbers of the copies in a new shard."""
        start, stop = self.starts[number], self.starts[number + 1]
        if not self.ordered:
            return np.arange(start, stop)
        return np.array(np.load(self.folder / "order.npy", mmap_mode="r")[start:stop])


def make_plan(
    stage: IndexStage,
    folder: Path,
    left_out: dict[int, list[int]],
    size: int,
    seed: int | None,
    tokens: TokenStage | None = None,
) -> Plan:
    """Divide the copies of all samples into shards.

    Args:
        stage: the index.
        folder: for the arrays of the plan.
        left_out: rows of each shard that are repeats.
        size: copies of a shard; of packed ones, sequences.
        seed: of the shuffle; None keeps the order of the pool. A shuffle holds 24 bytes a copy in
            memory.
        tokens: of the samples that are packed into sequences; None packs nothing.
    """
    offsets, starts, filled = [0], [0], (0, 0)
    lengths = [np.empty(0, np.int64)]
    counts = [np.empty(0, np.int64)]
    for number in range(len(stage.shards)):
        rows = stage.mapped(number, "samples")
        copies = np.array(rows["copies"])
        copies[left_out.get(number, [])] = 0
        _save(folder / f"copies-{number}.npy", np.append(0, np.cumsum(copies)))
        long = np.repeat(rows["bytes"], copies)
        if tokens is not None:
            counts.append(np.repeat(tokens.mapped(number, "tokens"), copies))
        if seed is None and tokens is None:
            cuts, filled = cut(long, size, filled)
            starts += [offsets[-1] + place for place in cuts]
        else:
            lengths.append(long)
        offsets.append(offsets[-1] + len(long))
    if tokens is not None:
        order, first = pack_copies(np.concatenate(counts), tokens.packing.capacity, seed)
        _save(folder / "order.npy", order)
        _save(folder / "packs.npy", first)
        ends = np.append(first, len(order))
        held = np.diff(np.append(0, np.cumsum(np.concatenate(lengths)[order]))[ends])
        starts += ends[cut(held, size, (0, 0))[0]].tolist()
    elif seed is not None:
        order = np.random.default_rng(seed).permutation(offsets[-1])
        _save(folder / "order.npy", order)
        starts += cut(np.concatenate(lengths)[order], size, (0, 0))[0]
    if starts[-1] < offsets[-1]:
        starts.append(offsets[-1])
    return Plan(folder, tuple(starts), tuple(offsets), not (seed is None and tokens is None))


def _save(path: Path, array: np.ndarray) -> None:
    with replacing(path) as part, part.open("wb") as file:
        np.save(file, array)


def cut(
    lengths: np.ndarray, size: int, filled: tuple[int, int]
) -> tuple[list[int], tuple[int, int]]:
    """Where new shards start among some copies.

    Args:
        lengths: bytes of each copy.
        size: copies of a shard at most.
        filled: copies and bytes in the shard that is open.

    Returns:
        (starts, filled): a shard is closed as soon as it is full, or before a copy that would make
        it too large.
    """
    starts: list[int] = []
    ends, place, (count, held) = np.cumsum(lengths), 0, filled
    while place < len(lengths):
        before = int(ends[place - 1]) if place else 0
        fits = int(np.searchsorted(ends, before + SHARD_BYTES - held, "right"))
        stop = min(place + size - count, max(fits, place + (count == 0)), len(lengths))
        count, held = count + stop - place, held + (int(ends[stop - 1]) if stop else 0) - before
        is_full = count == size or stop < len(lengths)
        place = stop
        if is_full:
            starts.append(place)
            count, held = 0, 0
    return starts, (count, held)
