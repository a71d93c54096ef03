"""Packages of images for tests, and the pools that are made of them."""

from __future__ import annotations

import csv
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from presel_lightning.data import Pool, build_pool, load_pool, source

TURNS = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A dot."}]


def picture(number: int, form: str = "PNG") -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def pool_of(path: Path | list[Path], out: Path, **options: Any) -> tuple[Pool, dict[str, int]]:
    names = list(map(str, path)) if isinstance(path, list) else str(path)
    where = source(names, unpacked=out / "unpacked", **options)
    counts = build_pool(where, out)
    return load_pool(out, where.image_root), counts.by_problem


def problems(out: Path) -> list[dict[str, str]]:
    with (out / "problems.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def tar(path: Path, members: list[tuple[str | tarfile.TarInfo, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as handle:
        for name, content in members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(content)
            handle.addfile(info, io.BytesIO(content))
    return path


def link(name: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info
