"""Names of results by what defines them, and of files by their content."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from presel_lightning.console import console
from presel_lightning.run.files import read_json, scratch, user_cache, write_json

LARGE = 1 << 22
"""Bytes from which on the name of a file is remembered."""
SETTLED = 2.0
"""Seconds that a file must have been as it is; in less, a change may leave no trace in its times."""
SLOW = 1 << 30
"""Bytes from which on the console names the file that is read."""


def fingerprint(value: Any) -> str:  # noqa: ANN401 - any JSON-like value
    """Name a result by what defines it: 16 hex digits of SHA-256 over canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest_lines(lines: Iterable[str]) -> str:
    """Name a long list of strings without holding it: blake2b over its lines, in order."""
    digest = hashlib.blake2b(digest_size=8)
    for line in lines:
        digest.update(line.encode(errors="surrogatepass"))  # a file name that is no UTF-8
        digest.update(b"\n")
    return digest.hexdigest()


def digest_file(path: Path) -> str:
    """Name a file by its content."""
    return digest_bytes(path, 8).hex()


def digest_bytes(path: Path, size: int) -> bytes:
    """Name a file by its content: blake2b of `size` bytes over all of it."""
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, lambda: hashlib.blake2b(digest_size=size))
    return digest.digest()


def digest_weights(path: Path) -> str:
    """Name a file that may be very large by all its bytes, which are read once.

    The name is kept in the user's cache, for as long as size, times of modification and of change,
    and inode of the file stay as they are. Of several processes one reads, and the others wait.
    """
    place = path.resolve()
    if place.stat().st_size < LARGE:
        return digest_file(place)
    note = user_cache() / "digests" / f"{fingerprint(str(place))}.json"
    if scratch() is not None:  # a command that keeps nothing
        return _known(place, note) or digest_file(place)
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(note.with_suffix(".lock")):
            return _remembered(place, note)
    except OSError:  # a cache that cannot be written
        return digest_file(place)


def _remembered(path: Path, note: Path) -> str:
    """Name of a file as its note has it, or read now and noted."""
    if known := _known(path, note):
        return known
    state = _state(path)
    if state[0] >= SLOW:
        size = f"{state[0] / 1e9:.1f} GB"
        console.print(f"reading {path} ({size}) once, to name it by its content")
    digest = digest_file(path)
    unchanged = _state(path) == state
    if unchanged and time.time() - state[2] / 1e9 > SETTLED:
        write_json(note, {"path": str(path), "state": state, "digest": digest})
    return digest


def _known(path: Path, note: Path) -> str | None:
    """Name of a file in its note, if the file is as it was then."""
    known = read_json(note) if note.exists() else {}
    return known["digest"] if known.get("state") == _state(path) else None


def _state(path: Path) -> list[int]:
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino]


def digest_folder(folder: Path, without: Sequence[str] = ()) -> str:
    """Name a folder by the names and contents of its files, not by its path.

    Args:
        folder: the folder.
        without: names of files that do not count.
    """
    files = sorted(f for f in folder.rglob("*") if f.is_file() and f.name not in without)
    return digest_lines(
        f"{path.relative_to(folder).as_posix()} {digest_weights(path)}" for path in files
    )
