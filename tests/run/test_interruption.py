"""Signals to a process that runs the program, at moments that a test can find."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from presel_lightning.cli.main import main
from presel_lightning.run.ledger import Ledger
from tests.compare.test_command import processes_of
from tests.conftest import benchmark_arguments, fit_arguments, start
from tests.run.held_steps import HELD, hold

LINE = "presel_lightning: stopped; the same command continues from here\n"

HOLDING = """
import sys, time
from presel_lightning.run import interruption
interruption.SAME = 600  # seconds, until a line comes
interruption.install()
interruption.hold()
print("held", flush=True)
while not interruption.requested(): time.sleep(0.01)
print("asked", flush=True)
while line := sys.stdin.readline():
    while interruption._has_untaken(): time.sleep(0.01)
    interruption.SAME = float(line)
    print("again", flush=True)
time.sleep(600)
"""

STARTING = """
import time
from presel_lightning.run import interruption
interruption.install()
with interruption.blocked():
    print("starting", flush=True)
    while not interruption.requested(): time.sleep(0.01)
    time.sleep(0.2)
    print("started", flush=True)
time.sleep(60)
"""

FAILING = """
import os, signal, sys
from presel_lightning.run import interruption
interruption.install()
sys.setswitchinterval(60)  # no other thread runs by itself from now on
os.kill(os.getpid(), signal.SIGTERM)
interruption.leave_if_asked()
print("an error of its own")
"""

ENDED_BY_A_LIBRARY = """
import os, signal, sys, time
from presel_lightning.run import interruption
take = interruption._take
def late(number):
    time.sleep(1)
    take(number)
interruption._take = late
interruption.install()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))  # as that of Ray and of Lightning
try:
    os.kill(os.getpid(), signal.SIGTERM)
finally:
    interruption.finish()
"""

WORKING = """
import sys
from pathlib import Path
from presel_lightning.run import interruption
interruption.install()
from presel_lightning.run.executors import complete
from tests.run.slow_import import SlowImport
complete(SlowImport(Path(sys.argv[1]), "key"), range(4), "local", 2, "units")
"""

CHECKING = """
import sys
from pathlib import Path
from presel_lightning.run import interruption
interruption.install()
from presel_lightning.data.images import check_images
names = [path.name for path in Path(sys.argv[1]).iterdir()]
try:
    while True: check_images(Path(sys.argv[1]), names, workers=2)
finally:
    interruption.finish()  # as the program does: what breaks once it is asked to stop is no error
"""

PRINTING = """
import os, threading
from presel_lightning.run import interruption
interruption.install()
def show():
    while True: os.write(1, b"."*9 + bytes([10]))
for _ in range(4): threading.Thread(target=show, daemon=True).start()
show()
"""

UNENDING = """
import time, torch
while True: time.sleep(0.1)
"""

WRITING = """
from itertools import count
from presel_lightning.run import interruption
interruption.install()
try:
    with interruption.temporary_folder() as folder:
        for number in count():
            (folder / str(number)).write_text("x")
            if number == 0: print(folder, flush=True)
finally:
    interruption.finish()
"""

Run = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def run() -> Iterator[Run]:
    """Start Python in a session of its own."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str) -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        return started[-1]

    yield run
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_during_imports_exits_with_its_code_and_one_line(
    number: signal.Signals, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of torch, or of a Lightning whose import does not end."""
    (tmp_path / "lightning").mkdir()
    (tmp_path / "lightning" / "__init__.py").write_text(UNENDING)
    paths = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    command = ["-m", "presel_lightning", "fit", "--config", "quickstart.yaml"]
    process = run(*command, "--out", str(tmp_path / "run"))
    while "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text():
        assert process.poll() is None, process.communicate()
    os.killpg(process.pid, number)
    assert process.communicate() == ("", LINE) and process.returncode == 128 + number
    assert not (tmp_path / "run").exists()


def expect(process: subprocess.Popen[str], line: str) -> None:
    """Wait for a line of a process."""
    assert process.stdout is not None and process.stdout.readline() == f"{line}\n"


def let_signals_count(process: subprocess.Popen[str]) -> None:
    """Have `HOLDING` take the next signal for a second one."""
    assert process.stdin is not None
    process.stdin.write("0\n")
    process.stdin.flush()
    expect(process, "again")


def test_held_process_ends_at_the_second_signal_alone(run: Run) -> None:
    process = run("-c", HOLDING)
    expect(process, "held")
    process.terminate()
    expect(process, "asked")
    process.terminate()  # the same one, as `timeout` sends it to a process and to its group
    let_signals_count(process)
    assert process.poll() is None
    process.terminate()
    assert process.communicate()[1] == LINE and process.returncode == 143


def test_signal_that_a_slow_rank_hands_on_is_no_second_one(run: Run) -> None:
    ranks = (
        "interruption.LATE = 600; interruption.starts_ranks(lambda: [None]); interruption.hold()"
    )
    process = run("-c", HOLDING.replace("interruption.hold()", ranks))
    expect(process, "held")
    process.terminate()
    expect(process, "asked")
    let_signals_count(process)
    process.terminate()
    let_signals_count(process)
    assert process.poll() is None


def test_temporary_folder_that_is_written_to_goes_with_a_stopped_process(run: Run) -> None:
    process = run("-c", WRITING)
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    process.terminate()
    assert process.communicate()[1] == LINE and process.returncode == 143
    assert not list(folder.parent.glob(f"{folder.name}*"))


def test_stopped_process_prints_its_line_last(tmp_path: Path) -> None:
    """Other threads print until the end; without care one run of three shows them behind it."""
    path = tmp_path / "log"
    for _ in range(8):
        with path.open("wb") as log:
            process = subprocess.Popen([sys.executable, "-c", PRINTING], stdout=log, stderr=log)
        while path.stat().st_size < 100:
            assert process.poll() is None, path.read_text()
            time.sleep(0.001)
        process.terminate()
        assert process.wait() == 143
        assert path.read_text().endswith(LINE)


def test_signal_ignored_at_the_start_stays_ignored(run: Run) -> None:
    program = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); {HOLDING}"
    process = run("-c", program.replace("; \n", "\n"))
    expect(process, "held")
    process.send_signal(signal.SIGINT)
    process.terminate()
    expect(process, "asked")
    let_signals_count(process)
    process.terminate()
    assert process.wait() == 143


def test_process_that_starts_others_ends_once_they_have_what_they_are_given(run: Run) -> None:
    process = run("-c", STARTING)
    expect(process, "starting")
    process.send_signal(signal.SIGINT)
    assert process.communicate() == ("started\n", LINE) and process.returncode == 130


@pytest.mark.parametrize("program", [FAILING, ENDED_BY_A_LIBRARY], ids=["error", "exit"])
def test_end_that_follows_a_signal_at_once_is_by_the_signal(program: str, run: Run) -> None:
    process = run("-c", program)
    assert process.communicate() == ("", LINE) and process.returncode == 143


@pytest.mark.parametrize("at", ["importing", "working"])
def test_signal_to_the_group_ends_workers_and_their_server_in_silence(
    at: str, run: Run, tmp_path: Path
) -> None:
    process = run("-c", WORKING, str(tmp_path))
    assert process.stdout is not None
    while process.stdout.readline() != f"{at}\n":
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=300)[1] == LINE and process.returncode == 130


def test_workers_and_their_server_end_with_a_process_that_is_killed(
    run: Run, tmp_path: Path
) -> None:
    process = run("-c", WORKING, str(tmp_path))
    assert process.stdout is not None
    while process.stdout.readline() != "working\n":
        assert process.poll() is None
    process.kill()
    process.wait()
    end = time.monotonic() + 120  # units take longer
    while (left := processes_of(process.pid)) and time.monotonic() < end:
        time.sleep(0.1)
    if left:
        os.killpg(process.pid, signal.SIGKILL)
    assert not left


@pytest.mark.parametrize("after", [0.0, 0.5])
def test_signal_to_the_group_ends_image_workers_in_silence(
    after: float, run: Run, tmp_path: Path, pool_folder: Path
) -> None:
    """While they start, and while they decode."""
    picture = next((pool_folder / "images").rglob("*.png")).read_bytes()
    for number in range(2000):
        (tmp_path / f"{number}.png").write_bytes(picture)
    process = run("-c", CHECKING, str(tmp_path))
    while len(processes_of(process.pid)) < 4:  # with the resource tracker
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    time.sleep(after)
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate() == ("", LINE) and process.returncode == 130
    end = time.monotonic() + 120
    while processes_of(process.pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert processes_of(process.pid) == []


SCONTROL = """#!/bin/sh
sleep 1
echo "$@" >> "$(dirname "$0")/asked"
"""
JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "presel", "SLURM_NODELIST": "127.0.0.1"}
JOB |= {"SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1", "SLURM_PROCID": "0"}
JOB |= {"SLURM_LOCALID": "0", "SLURM_NODEID": "0"}


@pytest.mark.slow
def test_preempted_job_of_several_devices_is_queued_again_however_late_slurm_answers(
    pool_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning looks every five seconds for ranks that have ended, and kills the first process."""
    (tmp_path / "scontrol").write_text(SCONTROL.replace("sleep 1", "sleep 11"))
    (tmp_path / "scontrol").chmod(0o755)
    out, log = tmp_path / "run", tmp_path / "log"
    ranks = ["--trainer.devices", "2", "--trainer.accelerator", "cpu"]
    held = hold(out, "reference")
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "presel"}  # without srun
    with monkeypatch.context() as patch:
        for name, value in {**job, "PATH": f"{tmp_path}:{os.environ['PATH']}"}.items():
            patch.setenv(name, value)
        process = start(fit_arguments(pool_folder, out, *ranks, *HELD), log)
    while not held.with_name("begun").exists():
        assert process.poll() is None, log.read_text()
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGUSR1)
    assert process.wait() == 128 + signal.SIGUSR1, log.read_text()
    assert log.read_text().splitlines()[-1] == (
        "presel_lightning: stopped; job 7 is queued again and continues from here"
    )
    assert (tmp_path / "asked").read_text() == "requeue 7\n"


@pytest.mark.slow
def test_preempted_slurm_job_is_queued_again_and_continues_to_equal_weights(
    finished: Path, pool_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal reaches every process of the job, the loaders' too, as Slurm sends it.

    Slurm takes a second to answer; the loaders' processes, which the fit has ended, are gone by then.
    """
    (tmp_path / "scontrol").write_text(SCONTROL)
    (tmp_path / "scontrol").chmod(0o755)
    out, log = shutil.copytree(finished, tmp_path / "run"), tmp_path / "log"
    shutil.rmtree(out / "models" / "final")
    Ledger(out / "run.json").record("final", status="running")
    arguments = fit_arguments(pool_folder, out, *benchmark_arguments(pool_folder), *HELD)
    held = hold(out, "final")
    with monkeypatch.context() as patch:
        for name, value in {**JOB, "PATH": f"{tmp_path}:{os.environ['PATH']}"}.items():
            patch.setenv(name, value)
        process = start([*arguments, "--data.num_workers", "2"], log)
    while not held.with_name("begun").exists():
        assert process.poll() is None, log.read_text()
        time.sleep(0.005)
    members = processes_of(process.pid)
    assert len(members) > 1
    for pid in members:
        os.kill(pid, signal.SIGUSR1)
    assert process.wait() == 128 + signal.SIGUSR1
    text = log.read_text()
    assert text.splitlines()[-1] == (
        "presel_lightning: stopped; job 7 is queued again and continues from here"
    )
    assert "Traceback" not in text and (tmp_path / "asked").read_text() == "requeue 7\n"
    assert [path.name for path in out.glob("work/fit-final-*/*.ckpt")] == ["step=1.ckpt"]
    assert not (out / "models" / "final").exists()
    held.unlink()
    assert main(arguments) == 0
    name = "models/final/adapter_model.safetensors"
    assert (out / name).read_bytes() == (finished / name).read_bytes()
