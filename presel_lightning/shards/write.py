"""Second pass of `reshard`: the new shards, each from the old ones that its samples lie in."""

from __future__ import annotations

import tarfile
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from presel_lightning.errors import UserError
from presel_lightning.filters.uids import as_hex
from presel_lightning.run.files import replacing, write_json
from presel_lightning.run.units import Stage
from presel_lightning.shards.index import IndexStage
from presel_lightning.shards.plan import Plan
from presel_lightning.shards.tar_members import BLOCK, mapped

OWNER, MODE = "bigdata", 0o444
"""User, group and mode of members, as webdataset writes them."""
SHARD, STATS = "{:08d}.tar", "{:08d}_stats.json"


@dataclass(frozen=True)
class WriteStage(Stage):
    """The new shards, with the statistics beside each.

    Args:
        folder: of the manifests.
        key: what else defines the result.
        index: of the old shards.
        plan: of the new ones.
        output: folder of the new shards.
    """

    index: IndexStage
    plan: Plan
    output: Path

    def defined_by(self, number: int) -> object:
        """The old shards that it is made from are in the key already."""
        return number

    def __call__(self, number: int) -> None:
        """Write a shard, its statistics, and last its manifest."""
        path = self.output / SHARD.format(number)
        copies = self.plan.copies(number)
        with replacing(path) as part, part.open("wb") as out, ExitStack() as stack:
            old = _OldShards(self.index, self.plan, stack)
            for copy in copies.tolist():
                for header, content in old.members(copy):
                    out.write(header)
                    out.write(content)
                    out.write(bytes(-len(content) % BLOCK))
            _end(out)
        write_json(self.output / STATS.format(number), {"successes": len(copies)})
        write_json(self.manifest(number), {"successes": len(copies)})


def _end(out: BinaryIO) -> None:
    """Two blocks of zeros, and more up to a whole record."""
    out.write(bytes(2 * BLOCK))
    out.write(bytes(-out.tell() % tarfile.RECORDSIZE))


class _OldShards:
    """The shards that copies come from, opened when they are asked for."""

    def __init__(self, index: IndexStage, plan: Plan, stack: ExitStack) -> None:
        self.index, self.plan, self.stack = index, plan, stack
        self.opened: dict[int, _OldShard] = {}

    def members(self, copy: int) -> Iterator[tuple[bytes, bytes]]:
        """Header and content of each member of a copy, by its number."""
        number = bisect_right(self.plan.offsets, copy) - 1
        if number not in self.opened:
            self.opened[number] = _OldShard(self.index, self.plan, number, self.stack)
        return self.opened[number].members(copy - self.plan.offsets[number])


class _OldShard:
    def __init__(self, index: IndexStage, plan: Plan, number: int, stack: ExitStack) -> None:
        path = index.path(number)
        try:
            self.tar = stack.enter_context(mapped(path))
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read any more ({error}); start again") from error
        self.rows = index.mapped(number, "samples")
        self.places = index.mapped(number, "members")
        self.endings: list[str] = index.read(number)["endings"]
        self.copies = np.load(plan.folder / f"copies-{number}.npy")

    def members(self, copy: int) -> Iterator[tuple[bytes, bytes]]:
        """Header and content of each member of a copy, counted in this shard."""
        row = int(np.searchsorted(self.copies, copy, "right")) - 1
        key = f"{as_hex(self.rows['uid'][row : row + 1])[0]}-{copy - int(self.copies[row])}"
        start = int(self.rows["first"][row])
        last = row + 1 == len(self.rows)
        stop = len(self.places) if last else int(self.rows["first"][row + 1])
        for offset, size, ending in self.places[start:stop].tolist():
            name = f"{key}.{self.endings[ending]}"
            yield header(name, size), self.tar[offset : offset + size]


def header(name: str, size: int) -> bytes:
    """Header of a member, as `tarfile` makes it in GNU format; usual names take a tenth of the time."""
    raw, length = name.encode(errors="surrogateescape"), b"%011o" % size
    if len(raw) > 100 or len(length) > 11:
        return _by_tarfile(name, size)
    total = BLANK_SUM + sum(raw) + sum(length)
    return b"".join(
        (
            raw.ljust(100, b"\0"),
            BLANK[100:124],
            length,
            BLANK[135:148],
            b"%06o\0 " % total,
            BLANK[156:],
        )
    )


def _by_tarfile(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.uname, info.gname = size, MODE, OWNER, OWNER
    return info.tobuf(tarfile.GNU_FORMAT, errors="surrogateescape")


BLANK = _by_tarfile("", 0)
BLANK_SUM = sum(BLANK) - sum(BLANK[124:135]) - sum(BLANK[148:156]) + 8 * ord(" ")
"""Sum of the bytes of a header without name and length, the checksum being blanks."""
