"""Processes that this program starts end with it, however it ends."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
"""Signals that ask a run to stop."""
STARTED_BY = "PRESEL_LIGHTNING_STARTED_BY"
"""Environment variable: process id of the command that has started another."""
PAUSE = 0.5
"""Seconds between two looks at the parent."""


def environment_with_parent() -> dict[str, str]:
    """Environment of a command that this process starts, and that ends with it."""
    return {**os.environ, STARTED_BY: str(os.getpid())}


def exit_with_known_parent() -> None:
    """Watch the process that has started this command by `environment_with_parent`, if one has."""
    if parent := os.environ.pop(STARTED_BY, ""):
        exit_with_parent(int(parent))


def exit_with_parent(parent: int) -> None:
    """Watch a parent from now on; leave nothing running behind one that was killed."""
    threading.Thread(target=_watch, args=(lambda: os.getppid() == parent,), daemon=True).start()


def obey_parent(*_: object) -> None:
    """Let a worker process end by its parent's SIGTERM alone, or with its parent.

    A terminal and a scheduler signal all processes of a run, and the parent decides when it can do
    without its workers: a batch may be under way that the next safe point needs.
    """
    parent, lives = _parent_and_life()
    if not hasattr(signal, "sigtimedwait"):  # macOS
        threading.Thread(target=_watch, args=(lives,), daemon=True).start()
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    threading.Thread(target=_serve, args=(parent, lives), daemon=True).start()


def _parent_and_life() -> tuple[int, Callable[[], bool]]:
    """Process id of the parent of a worker process, and whether it lives.

    A parent that has ended before this call is known by the pipe that multiprocessing keeps to it.
    """
    from multiprocessing import parent_process  # programs start without it

    born, first = parent_process(), os.getppid()
    parent = first if born is None or born.pid is None else born.pid
    return parent, lambda: os.getppid() == first and (born is None or born.is_alive())


def _watch(lives: Callable[[], bool]) -> None:
    while lives():
        time.sleep(PAUSE)
    os._exit(1)


def _serve(parent: int, lives: Callable[[], bool]) -> None:
    while lives():
        found = signal.sigtimedwait({signal.SIGTERM}, PAUSE)
        if found is not None and found.si_pid == parent:
            break
    os._exit(0)
