"""One command at a time in a run folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from presel_lightning.errors import UserError
from presel_lightning.run.ranks import broadcast, rank_zero


def occupy(out: Path) -> None:
    """Make the run folder and keep every other run out of it as long as this process lives.

    Raises:
        UserError: it cannot be made, or another process works in it.
    """
    broadcast(lambda: enter(out) if rank_zero() else None)


def enter(out: Path) -> None:
    """Take the lock, and clear away what writes that were killed have left."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / ".lock")
        lock.acquire(timeout=LEAVING)
    except Timeout:
        raise UserError(
            f"--out {out}: another process works there; wait, or give another"
        ) from None
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror})") from error
    LOCKS.append(lock)
    for part in [*out.glob(".*.part"), *out.glob("*/.*.part")]:
        shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)


LEAVING = 10.0
"""Seconds that the image loaders of a run that was killed may outlive it, with its lock."""

LOCKS: list[BaseFileLock] = []
"""Held while a command works; the system lets go of them if it is killed."""


def leave() -> None:
    """Let other runs into the run folder again."""
    while LOCKS:
        LOCKS.pop().release()
