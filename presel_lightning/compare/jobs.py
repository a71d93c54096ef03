"""Parallel commands in worker processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import active_children, get_context
from multiprocessing.queues import Queue
from pathlib import Path
from typing import NamedTuple

from presel_lightning.errors import PreselError
from presel_lightning.run import interruption
from presel_lightning.run.process_watch import environment_with_parent, exit_with_parent

Arguments = Sequence[str]
Main = Callable[[Sequence[str]], int]
"""Entry point of a program: its arguments to its exit code; pickled by reference."""

ARRIVAL = 60.0
"""Timeout in seconds of a worker's wait for its GPU number."""


@dataclass(frozen=True)
class Job:
    """A command of this program, and the file of its output; None for the console."""

    name: str
    arguments: Arguments
    log: Path | None = None


class Ended(NamedTuple):
    """A job that has ended."""

    job: Job
    code: int
    seconds: float


@dataclass(frozen=True)
class Slots:
    """Resources of parallel jobs.

    Attributes:
        workers: number of worker processes.
        devices: GPU number of each worker; empty on a CPU.
        together: whether a command starts processes itself (several devices), and so runs in a
            subprocess instead of a worker.
    """

    workers: int
    devices: tuple[str, ...] = ()
    together: bool = False


def run_jobs(jobs: Sequence[Job], slots: Slots, main: Main) -> Iterator[Ended]:
    """Run commands, and yield each with its exit code and seconds when it ends.

    Args:
        jobs: the commands.
        slots: number of parallel jobs, and their devices.
        main: entry point that a worker process calls with the arguments of a job.

    Raises:
        PreselError: a process was killed; the finished work of its job is kept.
    """
    if slots.together:
        for job in jobs:
            yield Ended(job, *timed(partial(in_process, job)))
        return
    context = get_context("spawn")
    devices: Queue[str] | None = context.Queue() if slots.devices else None
    for device in slots.devices:
        devices.put(device)  # type: ignore[union-attr]
    with (
        interruption.held(hand_to_workers),
        ProcessPoolExecutor(
            min(slots.workers, max(1, len(jobs))), context, begin, (os.getpid(), devices)
        ) as workers,
    ):
        try:
            with interruption.blocked():  # until `begin`
                running: dict[Future[tuple[int, float]], Job] = {
                    workers.submit(in_worker, job, main): job
                    for job in jobs
                    if not interruption.requested()
                }
            if number := interruption.requested():  # before all were there
                hand_to_workers(number)
            while running:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield Ended(running.pop(future), *future.result())
        except BrokenProcessPool as error:
            workers.shutdown(wait=True)  # the others come to their safe points
            interruption.leave_if_asked(within=interruption.SAME)
            raise PreselError(
                "a process was killed, possibly out of memory; give fewer --workers: the same "
                "command continues where it stopped"
            ) from error
        finally:
            workers.shutdown(wait=True, cancel_futures=True)


def hand_to_workers(number: int) -> None:
    """Have every worker stop at its next safe point."""
    for worker in active_children():
        if worker.pid is not None:
            with suppress(ProcessLookupError):  # the signal of the whole group has ended it
                os.kill(worker.pid, number)


def begin(parent: int, devices: Queue[str] | None) -> None:
    """Initialize a worker: its GPU, its stop at a safe point, and its exit with its parent.

    Args:
        parent: process id of the parent.
        devices: a GPU number for each worker; None on a CPU.
    """
    interruption.install(worker=True)
    exit_with_parent(parent)
    take_device(devices)


def take_device(devices: Queue[str] | None) -> None:
    """Let this process see one GPU alone.

    `Queue.empty` is not reliable, so a worker blocks until its number arrives.

    Args:
        devices: a GPU number for each worker; None on a CPU.

    Raises:
        Empty: no number arrived in time.
    """
    if devices is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices.get(timeout=ARRIVAL)


def timed(run: Callable[[], int]) -> tuple[int, float]:
    """Return the exit code of a command, and its seconds."""
    start = time.perf_counter()
    return run(), time.perf_counter() - start


def in_worker(job: Job, main: Main) -> tuple[int, float]:
    """Run a command in this process; return its exit code and seconds."""
    return timed(partial(guarded, job, main))


def guarded(job: Job, main: Main) -> int:
    """Run a command in this process; an unexpected error is printed, and its exit code 1."""
    with printing_to(job.log):
        try:
            return main(list(job.arguments))
        except Exception as error:  # noqa: BLE001 - a failed job must not end the others
            interruption.leave_if_asked()
            sys.excepthook(type(error), error, error.__traceback__)
            return 1


@contextmanager
def printing_to(log: Path | None) -> Iterator[None]:
    """Redirect stdout and stderr of this process, libraries included, to a file."""
    if log is None:
        yield
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    kept = os.dup(1), os.dup(2)
    with log.open("ab") as handle:
        os.dup2(handle.fileno(), 1)
        os.dup2(handle.fileno(), 2)
        try:
            yield
        finally:
            for stream, number, old in zip((sys.stdout, sys.stderr), (1, 2), kept, strict=True):
                stream.flush()
                os.dup2(old, number)
                os.close(old)


def in_process(job: Job) -> int:
    """Run a command in a subprocess, which stops when this process is asked to, and ends with it."""
    command = [sys.executable, "-m", "presel_lightning", *job.arguments]
    own = environment_with_parent()
    if job.log is None:
        return wait_for(lambda: subprocess.Popen(command, env=own))
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("ab") as log:
        return wait_for(lambda: subprocess.Popen(command, env=own, stdout=log, stderr=log))


def wait_for(start: Callable[[], subprocess.Popen[bytes]]) -> int:
    """Start a process and wait for its end; it is handed every signal, and each once.

    None is started where a signal has come before.
    """
    started: list[subprocess.Popen[bytes]] = []
    starting = threading.Lock()

    def hand_on(number: int) -> None:
        with starting:
            for process in started:
                process.send_signal(number)

    with interruption.held(hand_on):
        with starting, interruption.masked():  # until it takes signals itself
            if not interruption.requested():
                started.append(start())
        return started[0].wait() if started else 128 + interruption.requested()
