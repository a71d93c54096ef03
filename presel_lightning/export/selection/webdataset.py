"""WebDataset: tar shards, the image and its record side by side under one key."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

from PIL import Image

from presel_lightning.export.selection.source import Chosen
from presel_lightning.export.selection.target import ShardTarget

FACTS = ("score", "cluster", "rank", "weight", "reason")
"""What a record says of its selection."""


class WebDataset(ShardTarget):
    """`00000000.tar` and so on; the key of a sample is its uid, instructions may be missing.

    Equal selections give equal bytes: no times and no owners are written.
    """

    needs_instruction = False

    def write(self, samples: Iterable[Chosen], folder: Path, final: Path) -> None:
        """Write shard after shard."""
        stream = iter(samples)
        for number, first in enumerate(stream):
            with tarfile.open(folder / f"{number:08d}.tar", "w") as shard:
                add(shard, first)
                while shard.offset < self.shard_bytes and (each := next(stream, None)):
                    add(shard, each)


def add(shard: tarfile.TarFile, chosen: Chosen) -> None:
    """Append image and record; the image keeps its ending, by which readers know its kind."""
    key, kind = chosen.sample.uid, chosen.file.suffix.lower() or ending(chosen.file)
    facts = {name: chosen.facts[name] for name in FACTS}
    record = json.dumps({**chosen.sample.record, **facts}, ensure_ascii=False).encode()
    for name, content in ((key + kind, chosen.file.read_bytes()), (f"{key}.json", record)):
        member = tarfile.TarInfo(name)
        member.size = len(content)
        shard.addfile(member, BytesIO(content))


def ending(file: Path) -> str:
    """What the name of an image should end in, told by its content."""
    with Image.open(file) as image:
        return f".{str(image.format).lower()}"
