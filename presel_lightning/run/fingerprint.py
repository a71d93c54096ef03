"""Names of results by what defines them, and of files by their content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PIECES, PIECE = 64, 1 << 16
"""How many pieces of a large weight file enter its fingerprint, and their bytes."""


def fingerprint(value: Any) -> str:  # noqa: ANN401 - any JSON-like value
    """Name a result by what defines it: 16 hex digits of SHA-256 over canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest_lines(lines: Iterable[str]) -> str:
    """Name a long list of strings without holding it: blake2b over its lines, in order."""
    digest = hashlib.blake2b(digest_size=8)
    for line in lines:
        digest.update(line.encode())
        digest.update(b"\n")
    return digest.hexdigest()


def digest_file(path: Path) -> str:
    """Name a file by its content."""
    digest = hashlib.blake2b(digest_size=8)
    with path.open("rb") as handle:
        while chunk := handle.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def digest_weights(path: Path) -> str:
    """Name a file that may be very large by its size and by pieces spread over all of it.

    Of a safetensors file the pieces are its header and the beginning of every tensor.
    """
    size = path.stat().st_size
    if size <= PIECES * PIECE:
        return digest_file(path)
    digest = hashlib.blake2b(str(size).encode(), digest_size=8)
    with path.open("rb") as handle:
        if path.suffix == ".safetensors":
            length = int.from_bytes(handle.read(8), "little")
            header = handle.read(length)
            digest.update(header)
            tensors = [entry for name, entry in json.loads(header).items() if name[0] != "_"]
            starts = sorted(8 + length + entry["data_offsets"][0] for entry in tensors)
        else:
            starts = [number * (size - PIECE) // (PIECES - 1) for number in range(PIECES)]
        for start in starts:
            handle.seek(start)
            digest.update(handle.read(PIECE))
    return digest.hexdigest()


def digest_folder(folder: Path) -> str:
    """Name a checkpoint folder by the names and contents of its files, not by its path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return digest_lines(
        f"{path.relative_to(folder).as_posix()} {digest_weights(path)}" for path in files
    )
