"""What the processes of one run must do together."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning import Trainer
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.strategies import ParallelStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from lightning.pytorch.utilities import rank_zero_only

from presel_lightning.errors import PreselError
from presel_lightning.run import interruption
from presel_lightning.run.process_watch import STOPPING, exit_with_parent

T = TypeVar("T")

COLLECTIVE_TIMEOUT = timedelta(days=7)
"""How long the others wait while the first process decodes images or has answers written."""
START_TIMEOUT = timedelta(minutes=30)
"""How long the others wait for a process to open its connections, which may have ended unseen."""
FILESYSTEM_TIMEOUT = 60.0
"""Seconds until a file that one machine has written is seen by all others."""


def join(trainer: Trainer) -> None:
    """Start the processes that a Trainer asks for, and let all of them find each other.

    Nothing to do for one process, or where a strategy spawns processes for each pass. Those that
    torchrun, SLURM or the like have started are only joined.
    """
    queue_again(trainer)
    strategy = trainer.strategy
    launcher: Any = strategy.launcher
    runs_scripts = isinstance(launcher, _SubprocessScriptLauncher)
    if not runs_scripts or not isinstance(strategy, ParallelStrategy) or is_distributed():
        return
    environment = strategy.cluster_environment
    if isinstance(environment, LightningEnvironment) and environment.local_rank() > 0:
        exit_with_parent(interruption.launched_by() or os.getppid())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)  # of a script that takes none itself
    # which process was killed
    logging.getLogger("lightning.fabric.strategies.launchers").setLevel(logging.INFO)
    interruption.starts_ranks(lambda: launcher.procs)
    with interruption.masked():  # until a rank takes signals itself
        launcher.launch(strategy.setup_environment)
    barrier()


def keep_signals(trainer: Trainer) -> None:
    """Keep a Trainer from taking signals where `run.interruption` does.

    Lightning's handler of SIGTERM exchanges tensors with the other processes, in the middle of what
    they exchange, and waits for them.
    """
    if interruption.takes_signals():
        connector: Any = trainer._signal_connector
        connector.register_signal_handlers = _do_nothing  # `ddp_spawn` pickles it


def _do_nothing() -> None:
    pass


def queue_again(trainer: Trainer) -> None:
    """Stop and queue a job of Slurm's again by the signal that its environment plugin names."""
    environment = trainer._accelerator_connector.cluster_environment
    if isinstance(environment, SLURMEnvironment):
        wanted = environment.requeue_signal if environment.auto_requeue else None
        interruption.requeue_by(wanted)


def is_distributed() -> bool:
    """Whether there are several processes."""
    return dist.is_available() and dist.is_initialized()


def rank_zero() -> bool:
    """Whether this process is the first."""
    return bool(getattr(rank_zero_only, "rank", 0) == 0)


def rank_and_world() -> tuple[int, int]:
    """This process's rank and the number of processes."""
    return (dist.get_rank(), dist.get_world_size()) if is_distributed() else (0, 1)


def broadcast(decide: Callable[[], T]) -> T:
    """Let the first process decide or work for all; the others wait, and fail if it fails.

    Raises:
        PreselError: what the first process raised, or it has ended.
    """
    if not is_distributed():
        return decide()
    outcome: list[Any] = [None, None]  # the result; exit code and message of a failure
    failure: PreselError | None = None
    if rank_zero():
        try:
            outcome[0] = decide()
        except PreselError as error:
            failure, outcome[1] = error, (error.exit_code, str(error))
    _collective(dist.broadcast_object_list, outcome, src=0)
    if outcome[1] is not None:
        raise failure or PreselError.with_code(*outcome[1], reported=True)
    result: T = outcome[0]
    return result


def gather(rows: list[T]) -> list[T]:
    """The rows of all processes, in the order of their ranks, on every process."""
    if not is_distributed():
        return rows
    parts: list[list[T]] = [[] for _ in range(dist.get_world_size())]
    _collective(dist.all_gather_object, parts, rows)
    return [row for part in parts for row in part]


def barrier() -> None:
    """Wait until every process is here."""
    gather([])


def asked_to_stop() -> int:
    """The signal that any process of this run was asked to stop by, the same on all; 0 for none.

    All processes must call it at the same place.
    """
    number = torch.tensor(interruption.requested())
    if is_distributed():
        _collective(dist.all_reduce, number, op=dist.ReduceOp.MAX)
    return int(number)


def _collective(say: Callable[..., None], *what: Any, **how: Any) -> None:  # noqa: ANN401 - see `dist`
    """Exchange objects, however long it takes, and tell at once that another process has ended."""
    try:
        say(*what, **how, group=gloo_group())
    except RuntimeError as error:
        raise PreselError(
            "another process of this run has ended; see its output. The same command "
            "goes on where this one stopped"
        ) from error


@cache
def gloo_group() -> dist.ProcessGroup | None:
    """All processes, over gloo: it sees that one has died where NCCL waits for half an hour."""
    group: dist.ProcessGroup | None = dist.new_group(backend="gloo", timeout=START_TIMEOUT)
    dist.distributed_c10d._set_pg_timeout(COLLECTIVE_TIMEOUT, group)
    return group


def wait_for(seen: Callable[[], bool], what: object) -> None:
    """Wait for what another process has written; a shared disk may show it late.

    Raises:
        PreselError: it does not appear.
    """
    end = time.monotonic() + FILESYSTEM_TIMEOUT
    while not seen():
        if time.monotonic() > end:
            raise PreselError(
                f"{what} was written by another process and cannot be seen here; --out must be "
                "the same folder on a disk that all machines share"
            )
        time.sleep(0.5)
