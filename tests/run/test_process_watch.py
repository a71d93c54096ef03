"""One of two ranks is killed; they are started as by srun, without a launcher that ends both."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
from filelock import FileLock

from presel_lightning.cli.main import main
from presel_lightning.recipe.passes.base import Pass
from presel_lightning.run.ledger import Ledger
from tests.conftest import fit_arguments
from tests.ranks import TWO_NODES, ranks

SIGNALS = ("signals/paired_loss.parquet", "signals/features/features.npy")
RESULTS = (*SIGNALS, "selection/selection.parquet", "selection/tasks.csv")
KILLED = Path(__file__).with_name("killed_block.py")
LATE = Path(__file__).with_name("late_list.py")
UNCONNECTED = Path(__file__).with_name("unconnected_rank.py")


@pytest.fixture
def tuned(finished: Path, tmp_path: Path) -> Path:
    """A run folder that has its reference model, and no signals yet."""
    out = shutil.copytree(finished, tmp_path / "run")
    delete_signals(out)
    return out


def delete_signals(out: Path) -> None:
    """Delete the signals of a run."""
    shutil.rmtree(out / "signals")
    ledger = Ledger(out / "run.json")
    for stage in ("losses", "features", "selection"):
        ledger.record(stage, status="running")


def select(pool_folder: Path, out: Path) -> list[str]:
    """The command line up to the selection."""
    return ["select", *fit_arguments(pool_folder, out)[1:]]


def made_alike(out: Path, finished: Path) -> bool:
    """Whether signals and selection are those of one process."""
    return all((out / name).read_bytes() == (finished / name).read_bytes() for name in RESULTS)


KILLS = [(1, "losses 1"), (0, "features 3")]
"""A rank, and a pass with the number of the block, of its own, that it is killed at."""


@pytest.mark.slow
def test_killed_rank_ends_group_and_restart_matches(
    finished: Path,
    tuned: Path,
    pool_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = [*select(pool_folder, tuned), *TWO_NODES]
    logs = [tmp_path / f"log-{number}" for number in range(2)]
    for rank, moment in KILLS:
        monkeypatch.setenv("KILLED_AT", moment)
        processes = ranks(arguments, logs, scripts=((), (KILLED,)) if rank else ((KILLED,), ()))
        assert processes[rank].wait() == -signal.SIGKILL, logs[rank].read_text()
        assert processes[1 - rank].wait(timeout=300) == 1
        assert "another process of this run has ended" in logs[1 - rank].read_text()
    again = ranks(arguments, logs)
    assert [process.wait() for process in again] == [0, 0], logs[0].read_text()
    assert made_alike(tuned, finished)


@pytest.mark.slow
def test_restart_with_all_blocks_written_merges_them_once(
    finished: Path,
    tuned: Path,
    pool_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed between the last block and the end of the stage, and then started as two."""
    with monkeypatch.context() as patch:
        patch.setattr(Pass, "clear", lambda self, pattern: None)
        assert main(select(pool_folder, tuned)) == 0
    delete_signals(tuned)
    logs = [tmp_path / f"log-{number}" for number in range(2)]
    started = ranks([*select(pool_folder, tuned), *TWO_NODES], logs, scripts=((), (LATE,)))
    assert [process.wait() for process in started] == [0, 0], logs[1].read_text()
    assert made_alike(tuned, finished)


@pytest.mark.slow
def test_locked_run_folder_exits_with_2_on_every_rank(pool_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    with FileLock(out / ".lock"):
        logs = [tmp_path / f"log-{number}" for number in range(2)]
        started = ranks([*select(pool_folder, out), *TWO_NODES], logs)
        assert [process.wait() for process in started] == [2, 2]


@pytest.mark.slow
def test_rank_that_ends_before_it_connects_ends_the_other(
    pool_folder: Path, tmp_path: Path
) -> None:
    logs = [tmp_path / f"log-{number}" for number in range(2)]
    arguments = [*select(pool_folder, tmp_path / "run"), *TWO_NODES]
    first, second = ranks(arguments, logs, scripts=((UNCONNECTED,), (UNCONNECTED,)))
    assert second.wait() == -signal.SIGKILL, logs[1].read_text()
    assert first.wait() == 1
    assert "another process of this run has ended" in logs[0].read_text()
