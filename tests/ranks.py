"""Two processes of one run, started as by srun: no launcher that ends both, no import in either."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from tests.forked import Fork

TWO_NODES = ["--trainer.num_nodes", "2", "--trainer.devices", "1", "--trainer.accelerator", "cpu"]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def ranks(
    arguments: list[str],
    logs: list[Path],
    nodes: int = 2,
    scripts: tuple[Path | None, Path | None] = (None, None),
) -> list[Fork]:
    """Two tasks of SLURM's.

    Args:
        arguments: of both.
        logs: file of the output of each.
        nodes: number of machines that they are said to run on.
        scripts: what each runs before the program.
    """
    each = 2 // nodes
    job = {"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "presel", "SLURM_NODELIST": "127.0.0.1"}
    job |= {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": str(each)}
    job |= {"MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    started = []
    for rank, (log, script) in enumerate(zip(logs, scripts, strict=True)):
        log.unlink(missing_ok=True)
        place = {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank % each)}
        place["SLURM_NODEID"] = str(rank // each)
        environment = {**os.environ, **job, **place}
        started.append(Fork(arguments, log, environment, script))
    return started


def run_on_two(arguments: list[str], log: Path, script: Path | None = None) -> None:
    """Run a command on two processes of one machine, which both must end well."""
    logs = [log, log.with_name(f"{log.name}-1")]
    more = ["--trainer.devices", "2"]
    started = ranks([*arguments, *more], logs, nodes=1, scripts=(script, script))
    assert [process.wait() for process in started] == [0, 0], "".join(x.read_text() for x in logs)
