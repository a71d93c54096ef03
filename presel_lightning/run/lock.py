"""One command at a time in a run folder."""

from __future__ import annotations

from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from presel_lightning.errors import UserError
from presel_lightning.run.files import clear_parts, make_folder


def occupy(out: Path) -> None:
    """Make the run folder and keep every other run out of it as long as this process lives.

    Raises:
        UserError: it cannot be made, or another process works in it.
    """
    from presel_lightning.run.ranks import broadcast, rank_zero  # `review` enters without torch

    broadcast(lambda: enter(out) if rank_zero() else None)


def enter(out: Path) -> None:
    """Take the lock, and clear away what writes that were killed have left."""
    make_folder(out)
    try:
        lock = FileLock(out / ".lock")
        lock.acquire(timeout=LEAVING)
    except Timeout:
        raise UserError(
            f"--out {out}: another process works there; wait, or give another"
        ) from None
    except OSError as error:
        raise UserError(
            f"--out {out}: cannot be written ({error.strerror}); give another folder"
        ) from error
    LOCKS.append(lock)
    for folder in [out, *out.glob("*/")]:
        clear_parts(folder)


LEAVING = 10.0
"""Seconds that the image loaders of a run that was killed may outlive it, with its lock."""

LOCKS: list[BaseFileLock] = []
"""Held while a command works; the system lets go of them if it is killed."""


def occupied() -> list[Path]:
    """The run folders that this process works in."""
    return [Path(lock.lock_file).parent for lock in LOCKS]


def leave() -> None:
    """Let other runs into the run folder again."""
    while LOCKS:
        LOCKS.pop().release()
