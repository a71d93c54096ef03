"""WebDataset: tar shards, image and record of a sample under one key."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

from presel_lightning.export.selection.pictures import content, ending
from presel_lightning.export.selection.source import SelectedSample
from presel_lightning.export.selection.target import ShardTarget
from presel_lightning.records import with_own

FACTS = ("score", "cluster", "rank", "weight", "reason")
"""Columns of `selection.parquet` in a record."""


class WebDataset(ShardTarget):
    """`00000000.tar` and so on; the key of a sample is its uid, instructions may be missing.

    Output is deterministic: no timestamps and no owners are written.
    """

    needs_instruction = False

    def write(self, samples: Iterable[SelectedSample], folder: Path, final: Path) -> None:
        """Write the shards one after another."""
        stream = iter(samples)
        for number, first in enumerate(stream):
            with tarfile.open(folder / f"{number:08d}.tar", "w") as shard:
                add(shard, first)
                while shard.offset < self.shard_bytes and (each := next(stream, None)):
                    add(shard, each)


def add(shard: tarfile.TarFile, selected: SelectedSample) -> None:
    """Append images and record; an image has the ending of its content, one of several a number too."""
    key, files = selected.sample.uid, selected.files
    numbers = [f".{number}" for number in range(len(files))] if len(files) > 1 else [""]
    ours = {"uid": selected.sample.uid, "task": selected.sample.task}
    ours |= {name: selected.facts[name] for name in FACTS}
    record = json.dumps(with_own(selected.sample.record, ours), ensure_ascii=False).encode()
    images = (
        (f"{key}{number}{ending(file)}", content(file, selected.pixels))
        for file, number in zip(files, numbers, strict=True)
    )
    for name, data in (*images, (f"{key}.json", record)):
        member = tarfile.TarInfo(name)
        member.size = len(data)
        shard.addfile(member, BytesIO(data))
