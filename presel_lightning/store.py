"""Fingerprints, atomic writes and the ledger of a run (`run.json`)."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from tempfile import TemporaryDirectory
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


def user_cache() -> Path:
    """What is made once for all runs: `$PRESEL_LIGHTNING_CACHE`, or a folder in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("PRESEL_LIGHTNING_CACHE") or f"{home}/presel_lightning").expanduser()


_SCRATCH: ContextVar[Path | None] = ContextVar("scratch", default=None)


def scratch() -> Path | None:
    """Where a command that keeps nothing makes what it does not find; None for all others."""
    return _SCRATCH.get()


@contextmanager
def keeping_nothing() -> Iterator[None]:
    """Have what is usually made once (unpacked images, shipped pools) made in a temporary folder.

    What lies in the run folder or in the user's cache already is used from there.
    """
    with TemporaryDirectory(prefix="presel_lightning-") as name:
        token = _SCRATCH.set(Path(name))
        try:
            yield
        finally:
            _SCRATCH.reset(token)


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401 - any JSON value
    """Write JSON atomically; NaN is refused, as no other reader knows it."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:  # noqa: ANN401 - any JSON value
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Hand out a temporary name; sync what was written there and move it to `path` at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Hand out an empty temporary folder that takes the place of `path` at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            _sync(file)
        if path.is_symlink():  # another run's, see `join`
            path.unlink()
        shutil.rmtree(path, ignore_errors=True)
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Ledger:
    """`run.json`: what each stage made, from what, in how long; the only mark that it is done."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Any]:
        """The whole ledger; an empty one where the run has not begun."""
        return read_json(self.path) if self.path.exists() else {"stages": {}}

    def stage(self, name: str) -> dict[str, Any]:
        """What is known of one stage."""
        stage: dict[str, Any] = self.read()["stages"].get(name, {})
        return stage

    def is_done(self, name: str, key: str, artifacts: Iterable[Path]) -> bool:
        """Whether a stage ended with this fingerprint and what it made still lies there."""
        stage = self.stage(name)
        done = stage.get("status") == "done" and stage.get("fingerprint") == key
        return done and all(path.exists() for path in artifacts)

    def update(self, **facts: Any) -> None:  # noqa: ANN401 - any JSON value
        """Add facts about the whole run."""
        write_json(self.path, {**self.read(), **facts})

    def record(self, name: str, **facts: Any) -> None:  # noqa: ANN401 - any JSON value
        """Replace what is known of one stage."""
        ledger = self.read()
        ledger["stages"][name] = facts
        write_json(self.path, ledger)
