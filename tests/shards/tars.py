"""Tiny shards with the faults of real ones."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

Files = dict[str, bytes]


def sample(uid: str | None, key: str, **more: Any) -> tuple[str, Files]:
    """An image, a caption and the JSON of img2dataset; the key names its content."""
    record = {"key": key, "caption": f'the "uid": {key}', "exif": '{"a": 1}', **more}
    if uid is not None:
        record["uid"] = uid
    content = key.encode() * (1 + len(key) * 37 % 100)
    return key, {"jpg": content, "txt": key.encode(), "json": json.dumps(record).encode()}


def write_tar(
    path: Path, samples: Sequence[tuple[str, Files]], form: int = tarfile.GNU_FORMAT
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for key, files in samples:
            for ending, content in files.items():
                info = tarfile.TarInfo(f"{key}.{ending}")
                info.size, info.mtime = len(content), 1_700_000_000
                tar.addfile(info, io.BytesIO(content))


def pool(
    folder: Path, *, shards: int = 3, size: int = 10, seed: int = 0
) -> dict[str, tuple[str, Files]]:
    """Shards with gaps in their numbers; returns samples by uid in the order of the pool."""
    rng = np.random.default_rng(seed)
    found: dict[str, tuple[str, Files]] = {}
    for number in range(shards):
        some = [
            (uid, sample(uid, f"{number:05d}{place:04d}"))
            for place in range(size)
            for uid in [rng.bytes(16).hex()]
        ]
        write_tar(folder / f"{number * 3:08d}.tar", [files for _, files in some])
        found |= dict(some)
    return found


def subset(path: Path, uids: Sequence[str]) -> Path:
    pairs = sorted((int(uid[:16], 16), int(uid[16:], 16)) for uid in uids)
    np.save(path, np.array(pairs, "u8,u8"))
    return path
