"""Two processes of one run, started as by srun: no launcher that ends both, no import in either."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

from tests.forked import Fork

TWO_NODES = ["--trainer.num_nodes", "2", "--trainer.devices", "1", "--trainer.accelerator", "cpu"]
HELD = Path(__file__).parent / "run" / "held_checkpoint.py"
Scripts = Sequence[Path]

_drawn = count(os.getpid())  # two test runs on a machine begin at different ports


def free_port() -> int:
    """Draw a port that no other process takes before a rank does.

    It is below those that a system hands out by itself, and the workers of pytest-xdist draw from ranges of their own.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    while True:
        port = 20_000 + 1_000 * (worker % 10) + next(_drawn) % 1_000
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def ranks(
    arguments: list[str],
    logs: list[Path],
    nodes: int = 2,
    scripts: tuple[Scripts, Scripts] = ((), ()),
) -> list[Fork]:
    """Two tasks of SLURM's.

    Args:
        arguments: of both.
        logs: file of the output of each.
        nodes: number of machines that they are said to run on.
        scripts: those that each runs before the program.
    """
    each = 2 // nodes
    job = {"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "presel", "SLURM_NODELIST": "127.0.0.1"}
    job |= {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": str(each)}
    job |= {"MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    started = []
    for rank, (log, first) in enumerate(zip(logs, scripts, strict=True)):
        log.unlink(missing_ok=True)
        place = {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank % each)}
        place["SLURM_NODEID"] = str(rank // each)
        environment = {**os.environ, **job, **place}
        started.append(Fork(arguments, log, environment, first))
    return started


def on_one_machine(arguments: list[str], log: Path, first: Scripts) -> list[Fork]:
    """Two processes of one machine; the log of the second lies beside that of the first."""
    more, logs = ["--trainer.devices", "2"], [log, log.with_name(f"{log.name}-1")]
    return ranks([*arguments, *more], logs, nodes=1, scripts=(first, first))


def run_on_two(arguments: list[str], log: Path, *first: Path) -> None:
    """Run a command on two processes of one machine, which must both end well."""
    started = on_one_machine(arguments, log, first)
    assert [process.wait() for process in started] == [0, 0], log.read_text()


def killed_on_two(
    arguments: list[str], log: Path, moment: Callable[[], object], *first: Path
) -> None:
    """Run a command on two processes of one machine, and kill both when their first checkpoint is there.

    Args:
        arguments: of both.
        log: file of the output.
        moment: whether it is.
        first: scripts that both run before the program.
    """
    started = on_one_machine(arguments, log, (*first, HELD))
    while not moment():
        assert [process.poll() for process in started] == [None, None], log.read_text()
        time.sleep(0.01)
    for number in (signal.SIGSTOP, signal.SIGKILL):  # neither sees the end of the other
        for process in started:
            process.send_signal(number)
    assert [process.wait() for process in started] == [-signal.SIGKILL] * 2
