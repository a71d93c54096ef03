"""Signals that stop a run: taken at any moment, obeyed at the next safe point.

A thread of its own takes them, through the wakeup descriptor of Python's signal handling. So none is
swallowed by a library or shown as a traceback, and none waits for a call that waits for another
process. What lies on disk is whole at every moment (`files`), so that most of a run may end at once;
what would lose paid or long work holds the end off (`hold`) and asks (`requested`) where it may come.

Nothing here imports torch: the program installs it before anything else is imported.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

from presel_lightning.run.process_watch import STOPPING

PARENT = "PRESEL_LIGHTNING_PARENT"
"""Environment variable: process id of the first process, in those that it starts as ranks."""
SAME = 1.0
"""Seconds in which a signal is the one before: schedulers send it to a process and to its group."""
FAREWELL = 30.0
"""Seconds that a rank waits for the end of the process that has started it."""
LATE = 5.0
"""Seconds by which a rank may be behind another."""

Asked = Callable[[int], None]
"""What is done in the listening thread when a signal comes while the end is held off."""


@dataclass
class _State:
    """What this process knows of its end."""

    handled: set[int] = field(default_factory=set)
    requeue: int | None = None  # the one of them that asks Slurm for another start
    receiving: int | None = None  # descriptor of the signals that have come
    received: int = 0
    since: float = 0.0
    held: int = 0
    asked: list[Asked] = field(default_factory=list)
    parent: int | None = None  # the process that started this one as a rank
    is_worker: bool = False
    ranks: Callable[[], list[subprocess.Popen[bytes]]] = list  # that this one has started
    folders: list[Path] = field(default_factory=list)


_state = _State()
_leaving = threading.Lock()
_taking = threading.Lock()
"""Held while the thread that listens takes signals; those that it has not read are in the pipe."""


def install(*, worker: bool = False) -> None:
    """Take SIGTERM and SIGINT, and in a job of Slurm's SIGUSR1, from now on.

    A signal that the process was started to ignore, as by `nohup`, stays ignored.

    Args:
        worker: a process of `compare`: the first signal counts, and only its parent ends it earlier.
    """
    parent = os.environ.get(PARENT) == str(os.getppid())
    _state.is_worker, _state.parent = worker, os.getppid() if parent else None
    _state.requeue = signal.SIGUSR1 if _job() else None
    wanted = {int(signal.SIGTERM), int(signal.SIGINT), *filter(None, [_state.requeue])}
    _state.handled = {n for n in wanted if signal.getsignal(n) != signal.SIG_IGN}
    _state.receiving, sending = os.pipe()
    os.set_blocking(sending, False)
    signal.set_wakeup_fd(sending, warn_on_full_buffer=False)
    _take_handlers()
    os.register_at_fork(after_in_child=_forget)
    threading.Thread(target=_listen, args=(_state.receiving,), daemon=True).start()
    # multiprocessing's tracker removes what a process leaves that ends at once; a user need not know
    quiet = [os.environ.get("PYTHONWARNINGS"), "ignore:resource_tracker"]
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, quiet))
    for number in signal.sigpending() & _state.handled:
        _take(number)  # now: the thread that listens may come too late for what begins next
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


def finish() -> None:
    """End as asked if a signal has come; else let the next one end the process by itself."""
    leave_if_asked()
    for number in _state.handled:
        signal.signal(number, signal.SIG_DFL)


def requested() -> int:
    """The signal that this process was asked to stop by; 0 for none."""
    return _state.received


def leave_if_asked(within: float = 0.0) -> None:
    """End as asked if a signal has come: what breaks after it is no error of its own.

    The thread that listens may be late to take one that has ended the work of this thread.

    Args:
        within: seconds in which it may still come, where a signal to the whole group has ended
            another process first.
    """
    end = time.monotonic() + within
    while not requested() and (_has_untaken() or time.monotonic() < end):
        time.sleep(0.01)
    if requested():
        leave()


def _has_untaken() -> bool:
    """Whether a signal has come that the thread that listens has not taken to its end."""
    if _state.receiving is None:
        return False
    unread, _, _ = select.select([_state.receiving], [], [], 0)
    return bool(unread) or _taking.locked()  # in this order


def hold(asked: Asked | None = None) -> None:
    """Hold the end off until `release`, or until `leave` is called at a safe point.

    Args:
        asked: is called when a signal comes, in another thread.
    """
    _state.held += 1
    if asked is not None:
        _state.asked.append(asked)
    if _state.handled:
        _take_handlers()  # Lightning's take the place of ours when a loop begins


def release(asked: Asked | None = None) -> None:
    """End the process if a signal has come since `hold`, or let the next one end it."""
    _state.held = max(0, _state.held - 1)
    if asked is not None:
        _state.asked.remove(asked)
    if _state.received and not _state.held:
        leave()


@contextmanager
def held(asked: Asked | None = None) -> Iterator[None]:
    """Hold the end off; see `hold`."""
    hold(asked)
    try:
        yield
    finally:
        release(asked)


@contextmanager
def blocked() -> Iterator[None]:
    """Start processes here: signals are kept from them until they are ready for them.

    The end of this process is held off, too: one that has begun to read what it is to do would
    show a traceback when the rest does not come.
    """
    with held(), masked():
        yield


@contextmanager
def masked() -> Iterator[None]:
    """Keep signals from processes that are started here; this one may still end by them at once."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Hand out a temporary folder that goes with the process, too, if a signal ends it."""
    with TemporaryDirectory(prefix="presel_lightning-") as name:
        _state.folders.append(Path(name))
        try:
            yield Path(name)
        finally:
            _state.folders.remove(Path(name))


def starts_ranks(processes: Callable[[], list[subprocess.Popen[bytes]]]) -> None:
    """Name the processes that this one starts as ranks of its run: they end with it.

    Args:
        processes: returns the list of them; it is emptied where this process ends them.
    """
    os.environ[PARENT] = str(os.getpid())
    _state.ranks = processes


def takes_signals() -> bool:
    """Whether signals are taken here, in the place of what they do by themselves."""
    return bool(_state.handled)


def launched_by() -> int:
    """Process id of the process that has started this one as a rank; 0 for none."""
    return int(os.environ.get(PARENT, "0"))


def requeue_by(number: int | None) -> None:
    """Choose the signal by which a job of Slurm's is stopped and queued again; None for none."""
    if not _state.handled or number == _state.requeue:
        return
    if _state.requeue is not None:
        _state.handled.discard(_state.requeue)
        signal.signal(_state.requeue, signal.SIG_DFL)
    _state.requeue = number
    _state.handled.update(filter(None, [number]))
    _take_handlers()


def leave(number: int = 0) -> NoReturn:
    """End this process and all that it has started, now.

    The exit code is 128 and the signal's number: 143 for SIGTERM, 130 for SIGINT.

    Args:
        number: the signal, where another process of the run has received it.
    """
    _state.received = number = _state.received or number
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch raises where a loader's worker ends
    _leaving.acquire()  # for good: two threads may come here
    try:
        await_parent()
        _kill_children()
        for folder in [*_state.folders, *_folders_of_multiprocessing()]:
            _remove(folder)
        if _is_first() and not _state.is_worker:
            _print_last(_requeue() if number == _state.requeue else CONTINUES)
    finally:
        os._exit(128 + number)


def _print_last(line: str) -> None:
    """Print a line to stderr; what other threads print until the process ends is dropped."""
    error = 2
    with suppress(OSError):
        error = os.dup(2)
        nothing = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nothing, stream)
    with suppress(OSError):
        os.write(error, f"presel_lightning: {line}\n".encode())


CONTINUES = "stopped; the same command continues from here"


def _listen(receiving: int) -> None:
    while True:
        select.select([receiving], [], [])
        with _taking:
            for number in os.read(receiving, 64):
                if number in _state.handled:
                    _take(number)


def _take(number: int) -> None:
    """Note a signal, hand it on, and end where nothing holds the end off."""
    if _state.parent is not None and _state.parent == os.getppid():
        with suppress(ProcessLookupError):
            os.kill(_state.parent, number)
    again = bool(_state.received)
    same = LATE if _state.ranks() else SAME  # ranks hand on what they receive, too
    if again and (_state.is_worker or _state.parent or time.monotonic() - _state.since < same):
        return
    if not again:
        _state.received, _state.since = number, time.monotonic()
    for asked in list(_state.asked):
        asked(number)
    if not again:
        _state.since = time.monotonic()  # what has come meanwhile is the same signal
    if again or not (_state.held or _state.parent):
        leave()


def _take_handlers() -> None:
    if threading.current_thread() is threading.main_thread():
        for number in _state.handled:
            signal.signal(number, _ignore)  # the thread that listens takes it
            signal.siginterrupt(number, False)


def _ignore(*_: object) -> None:
    """Do nothing in the main thread: Python's own handler has written the signal to the pipe."""


def _forget() -> None:
    """In a forked child: its signals are not its parent's."""
    signal.set_wakeup_fd(-1)
    for number in _state.handled:
        signal.signal(number, signal.SIG_DFL)
    vars(_state).update(vars(_State()))


def await_parent() -> None:
    """Wait for the end of the process that has started this one as a rank, and that ends, too.

    Lightning takes a rank that ends before it for crashed, and kills it.
    """
    end = time.monotonic() + FAREWELL
    while os.getppid() == _state.parent and time.monotonic() < end:
        time.sleep(0.05)


def _kill_children() -> None:
    """End ranks, workers of pools and loaders; all they have left on disk is whole."""
    listed = _state.ranks()
    ranks = list(listed)
    listed.clear()  # Lightning's observer would take their end for a crash, and kill this one
    for rank in ranks:
        rank.kill()
    pools = sys.modules.get("multiprocessing.process")
    with suppress(Exception):  # a list that changes meanwhile
        for child in pools.active_children() if pools else []:
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)


def _folders_of_multiprocessing() -> list[Path]:
    """Where this process and its workers keep their sockets; a worker's may be its parent's."""
    processes = sys.modules.get("multiprocessing.process")
    name = processes and processes.current_process()._config.get("tempdir")
    return [Path(name)] if name and not _state.is_worker else []


def _remove(folder: Path) -> None:
    """Remove a folder that another thread may write to: under another name, which that does not know."""
    aside = folder.with_name(f"{folder.name}-ended")
    with suppress(OSError):
        folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def _is_first() -> bool:
    ranks = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
    return all(os.environ.get(name, "0") == "0" for name in ranks)


def _job() -> str:
    """Name of the batch job of Slurm's that this process is part of; empty for none."""
    if os.environ.get("SLURM_JOB_NAME") in (None, "bash", "interactive"):
        return ""
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        return f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}"
    return os.environ.get("SLURM_JOB_ID", "")


def _requeue() -> str:
    """Have Slurm queue the job again; return what became of it."""
    try:
        done = subprocess.run(["scontrol", "requeue", _job()], check=False, capture_output=True)
    except OSError as error:
        return f"{CONTINUES}; the job is not queued again (scontrol: {error.strerror})"
    if done.returncode:
        why = " ".join(done.stderr.decode(errors="replace").split())
        return f"{CONTINUES}; the job is not queued again (scontrol requeue: {why})"
    return f"stopped; job {_job()} is queued again and continues from here"
