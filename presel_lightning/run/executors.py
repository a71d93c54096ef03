"""Who does the units of a stage: processes of this machine, Ray, or the tasks of a Slurm array.

All share one truth, the manifests. A unit that somebody was killed in has none, and is done again;
the number of workers may change from one start to the next.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from presel_lightning.console import track
from presel_lightning.errors import PreselError, UserError
from presel_lightning.run.files import drop, make_folder
from presel_lightning.run.interruption import blocked, masked
from presel_lightning.run.pages import page
from presel_lightning.run.process_watch import STOPPING
from presel_lightning.run.units import Stage, pending

Executor = Literal["local", "ray", "slurm"]

Ask = Callable[[int], object]
"""Starts a unit on Ray, by its number."""

DEATHS = 3
"""Pools of workers that may break, one after the other, without a unit done."""
WAITING = 1.0
"""Seconds between two looks at the units that other tasks of an array do."""


def complete(
    stage: Stage, numbers: Sequence[int], executor: Executor, workers: int, what: str
) -> None:
    """Do all units of a stage that have no manifest.

    Args:
        stage: what is done.
        numbers: of the units.
        executor: who does it.
        workers: processes, or tasks of Ray at a time.
        what: name of the stage, for the progress bar.

    Raises:
        UserError: Ray is not installed, or this is no task of a Slurm array.
    """
    left = pending(stage, numbers)
    if executor == "slurm":
        _in_array(stage, left)
    elif executor == "ray":
        _on_ray(stage, left, workers, what)
    elif workers == 1 or len(left) < 2:
        for number in track(left, what, len(left)):
            stage(number)
    else:
        _in_processes(stage, left, workers, what)


def _in_processes(stage: Stage, left: list[int], workers: int, what: str) -> None:
    """A pool of processes; where one of them is killed, another pool does the rest."""
    deaths = 0
    while left and deaths < DEATHS:
        try:
            for _ in track(_pooled(stage, left, workers), what, len(left)):
                pass
        except BrokenProcessPool:
            pass
        rest = pending(stage, left)
        deaths = deaths + 1 if len(rest) == len(left) else 0
        left = rest
    if left:
        raise PreselError(
            f"workers die at {stage.manifest(left[0]).stem} or near it, {DEATHS} times in a row; "
            "give them more memory, or fewer --workers"
        )


def _pooled(stage: Stage, left: list[int], workers: int) -> Iterator[None]:
    # a fork of this process might hang, as pyarrow has threads; the server that is forked instead
    # imports what all stages need once
    context = get_context("forkserver")
    context.set_forkserver_preload([type(stage).__module__])
    with ProcessPoolExecutor(min(workers, len(left)), context, _begin) as pool:
        _start_server(context)
        with blocked():
            jobs = [pool.submit(stage, number) for number in left]
        try:
            for job in as_completed(jobs):
                yield job.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _start_server(context: ForkServerContext) -> None:
    """Wait until the server of the workers has imported, for as long as that takes.

    Signals are kept from it: it would show where in its imports one has met it. This process ends
    by them meanwhile, and the server with it.
    """
    first = context.Process(target=_begin)
    with masked():
        first.start()
    first.join()


def _begin() -> None:
    """Let a worker end with its parent, or by SIGTERM, but not by the terminal's SIGINT.

    A pool that breaks ends its workers by SIGTERM; they inherit the mask of signals that
    the server was started with. A parent that was killed cannot end them, and no end of file tells
    them so, as each has both ends of the queue.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with, args=(parent_process(),), daemon=True).start()


def _end_with(parent: BaseProcess | None) -> None:
    if parent is not None:
        parent.join()
        os._exit(1)


def _on_ray(stage: Stage, left: list[int], workers: int, what: str) -> None:
    """Tasks or actors of Ray, `workers` at a time; a lost one is started again by Ray."""
    try:
        import ray
    except ImportError as error:
        raise UserError("--executor ray needs Ray: pip install 'presel-lightning[ray]'") from error
    if not ray.is_initialized():
        # without an address Ray would join what `ray start` has left on this machine
        address, n = (None, None) if os.environ.get("RAY_ADDRESS") else ("local", workers)
        ray.init(address, num_cpus=n, log_to_driver=False, include_dashboard=False)
    held, waiting = ray.put(stage), list(reversed(left))
    free = _slots(ray, stage, held, min(workers, len(left)))
    busy: dict[object, Ask] = {}

    def results() -> Iterator[None]:
        while waiting or busy:
            while waiting and free:
                slot = free.pop()
                busy[slot(waiting.pop())] = slot
            done, _ = ray.wait(list(busy))
            for reference in done:
                free.append(busy.pop(reference))
                yield ray.get(reference)

    try:
        for _ in track(results(), what, len(left)):
            pass
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, PreselError):
            raise error.cause from None
        raise


def _slots(ray: Any, stage: Stage, held: object, n: int) -> list[Ask]:  # noqa: ANN401
    """What takes the number of a unit: actors that keep a model, or a task each time."""
    if not stage.holds_model:
        task = ray.remote(max_retries=DEATHS)(_run)
        return [partial(task.remote, held)] * n
    gpus = 1 if ray.cluster_resources().get("GPU") else 0
    actor = ray.remote(max_restarts=DEATHS, max_task_retries=DEATHS, num_gpus=gpus)(_Actor)
    return [partial(_ask, actor.remote(held)) for _ in range(n)]


def _run(stage: Stage, number: int) -> None:
    stage(number)


class _Actor:
    """A process of Ray that does one unit after the other."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def do(self, number: int) -> None:
        """Do a unit."""
        self.stage(number)


def _ask(actor: Any, number: int) -> object:  # noqa: ANN401 - Ray's handle
    reference: object = actor.do.remote(number)
    return reference


def array_task() -> tuple[int, int]:
    """Number of this task of a Slurm array, from 0, and how many there are.

    Raises:
        UserError: this process is none.
    """
    try:
        first = int(os.environ.get("SLURM_ARRAY_TASK_MIN", "0"))
        return int(os.environ["SLURM_ARRAY_TASK_ID"]) - first, int(
            os.environ["SLURM_ARRAY_TASK_COUNT"]
        )
    except (KeyError, ValueError):
        raise UserError(
            "--executor slurm: SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT are not set; start "
            f"it by `sbatch --array=0-N`, see {page('web_scale.md')}"
        ) from None


def _in_array(stage: Stage, left: list[int]) -> None:
    """Each task begins at its own place and does what no other task is doing.

    So a task that is killed or never starts leaves its units to the others, and all return when all
    units are done.
    """
    task, tasks = array_task()
    start = len(left) * task // max(tasks, 1)
    left = left[start:] + left[:start]
    while left:
        before = len(left)
        for number in left:
            lock = FileLock(stage.manifest(number).with_suffix(".lock"))
            make_folder(stage.manifest(number).parent)
            try:
                with lock.acquire(timeout=0):
                    if not stage.is_done(number):
                        stage(number)
            except Timeout:
                continue
        left = pending(stage, left)
        if len(left) == before:
            time.sleep(WAITING)


@contextmanager
def one_at_a_time(work: Path, executor: Executor) -> Iterator[None]:
    """Keep another call out of a work folder, which goes at a good end.

    Tasks of a Slurm array share it, and it stays: others may still read it.

    Raises:
        UserError: another process works there.
    """
    make_folder(work)
    if executor == "slurm":
        yield
        return
    try:
        with FileLock(work / ".lock", timeout=0):
            yield
            drop(work)
    except Timeout:
        raise UserError(
            f"{work}: another process works there; wait, or give another --output"
        ) from None
