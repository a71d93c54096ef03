"""Several machines: two launchers on one machine take the part of two nodes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from safetensors.torch import load_file
from torch.testing import assert_close

from presel_lightning.run.interruption import PARENT
from tests.conftest import fit_arguments, start
from tests.ranks import free_port


def node(port: int, arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    """What docs/multi_node.md starts on each machine."""
    launch = ["torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1"]
    launch += [
        "--rdzv_backend",
        "c10d",
        "--rdzv_endpoint",
        f"127.0.0.1:{port}",
        "--rdzv_id",
        "test",
    ]
    with log.open("wb") as handle:
        return subprocess.Popen(
            [sys.executable, "-m", *launch, "-m", "presel_lightning", *arguments],
            stdout=handle,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )


@pytest.mark.slow
def test_torchrun_fit_on_two_nodes_matches_one_process(
    finished: Path, pool_folder: Path, tmp_path: Path
) -> None:
    out, port = tmp_path / "run", free_port()
    more = ["--trainer.num_nodes", "2", "--trainer.devices", "1", "--trainer.accelerator", "cpu"]
    arguments = fit_arguments(pool_folder, out, *more, "--benchmarks", "[]", "--baselines")
    logs = [tmp_path / f"log-{rank}" for rank in range(2)]
    nodes = [node(port, arguments, log) for log in logs]
    for process, log in zip(nodes, logs, strict=True):
        assert process.wait() == 0, log.read_text()
    assert sum("✓ final" in log.read_text() for log in logs) == 1, "told once for all"
    selection = "selection/selection.parquet"
    assert (out / selection).read_bytes() == (finished / selection).read_bytes()
    name = "models/final/adapter_model.safetensors"
    found, known = load_file(out / name), load_file(finished / name)
    assert found.keys() == known.keys()
    for key, value in known.items():
        assert_close(found[key], value, rtol=1e-2, atol=1e-4)


SLOW_END = """
import time
from presel_lightning.run import interruption, lock

lock.LEAVING = 0.0  # seconds
finish = interruption.finish

def late():
    time.sleep(11)
    finish()

interruption.finish = late
"""


@pytest.mark.slow
def test_error_of_all_ranks_has_its_exit_code_however_late_the_first_ends(
    pool_folder: Path, tmp_path: Path
) -> None:
    """Lightning looks every five seconds for ranks that have ended, and kills the first process."""
    out, log, script = (tmp_path / name for name in ("run", "log", "slow_end.py"))
    script.write_text(SLOW_END)
    out.mkdir()
    devices = ["--trainer.devices", "2", "--trainer.accelerator", "cpu"]
    with FileLock(out / ".lock"):
        process = start(fit_arguments(pool_folder, out, *devices), log, script)
        assert process.wait() == 2, log.read_text()
    assert "another process works there" in log.read_text()


HANDLER = """
import signal
from pathlib import Path
from presel_lightning.run import interruption
interruption.install()
from lightning import Callback
from lightning.pytorch.demos.boring_classes import BoringModel
from presel_lightning.cli.trainer import RecipeTrainer

taken = signal.getsignal(signal.SIGTERM)

class Check(Callback):
    def setup(self, trainer, module, stage):
        assert signal.getsignal(signal.SIGTERM) is taken

trainer = RecipeTrainer(
    accelerator="cpu", logger=False, enable_checkpointing=False, fast_dev_run=True, callbacks=[Check()]
)
trainer.fit(BoringModel())
assert signal.getsignal(signal.SIGTERM) is taken
"""


def test_trainer_takes_no_signal_of_a_program_that_does() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANDLER], timeout=300, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


ORPHAN = """
from lightning import Trainer
from presel_lightning.run.ranks import join
join(Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False))
"""


def test_rank_whose_launcher_has_ended_before_it_joins_ends() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    place = {"LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_PORT": str(free_port())}
    place |= {"MASTER_ADDR": "127.0.0.1", PARENT: str(ended.pid)}
    rank = subprocess.run(
        [sys.executable, "-c", ORPHAN],
        env={**os.environ, **place},
        timeout=300,
        check=False,
        capture_output=True,
    )
    assert rank.returncode == 1 and b"Traceback" not in rank.stderr
