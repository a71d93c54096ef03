from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import active_children, get_context
from pathlib import Path
from queue import Empty
from threading import Timer

import pytest

from presel_lightning.cli.main import main
from presel_lightning.compare import jobs
from presel_lightning.compare.command import stop_if
from presel_lightning.compare.jobs import (
    Job,
    Slots,
    hand_to_workers,
    printing_to,
    run_jobs,
    take_device,
)
from presel_lightning.errors import InstructionsMissing, PreselError


def jobs_in(folder: Path) -> list[Job]:
    """A user mistake, a success and an unexpected error."""
    (folder / "bad").mkdir()
    (folder / "bad" / "run.json").write_text("no JSON")
    return [
        Job("mistake", ["report", "--run", str(folder / "nowhere")], folder / "logs" / "mistake"),
        Job("help", ["--help"], folder / "logs" / "help"),
        Job("broken", ["report", "--run", str(folder / "bad")], folder / "logs" / "broken"),
    ]


@pytest.mark.parametrize(
    "slots", [Slots(1), Slots(2, ("2", "5")), Slots(1, together=True)], ids=str
)
def test_run_jobs_each_job_has_its_own_exit_code_and_log(slots: Slots, tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path)
    found = {job.name: code for job, code, _ in run_jobs(jobs, slots, main)}
    assert found == {"mistake": 2, "help": 0, "broken": 1}
    logs = {job.name: job.log.read_text() for job in jobs if job.log}
    assert "no run.json there" in logs["mistake"] and "Traceback" not in logs["mistake"]
    assert "usage: python -m presel_lightning" in logs["help"]
    assert "JSONDecodeError" in logs["broken"]


class Fatal(Job):
    """Kills the process that unpickles it."""

    def __reduce__(self) -> tuple[Callable[[int], object], tuple[int]]:
        return os._exit, (9,)


class Late(list[Job]):
    """Jobs of which each but the first is given when the workers have ended."""

    def __iter__(self) -> Iterator[Job]:
        threads = threading.active_count()
        for number, job in enumerate(super().__iter__()):
            while number and threading.active_count() > threads:  # of the pool
                time.sleep(0.01)
            yield job


@pytest.mark.parametrize("kind", [list, Late])
def test_run_jobs_killed_worker_error_suggests_fewer_workers(kind: type[list[Job]]) -> None:
    jobs = kind([Fatal("fatal", []), Job("help", ["--help"])])
    with pytest.raises(PreselError, match=r"a process was killed, .* give fewer --workers"):
        list(run_jobs(jobs, Slots(1), main))


def start_jobs(folder: Path, kind: str) -> subprocess.Popen[str]:
    """Three jobs for two workers, in a process group of their own."""
    command = [sys.executable, "-m", "tests.compare.held_jobs", str(folder), kind]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, text=True
    )


STOPPED = "presel_lightning: stopped; the same command continues from here\n"


def assert_stopped(process: subprocess.Popen[str], code: int) -> None:
    out, error = process.communicate()
    assert process.returncode == code and out == ""
    assert error == STOPPED


@pytest.mark.parametrize("group", [False, True])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("kind", ["held", "endless"])
def test_run_jobs_stopped_waits_for_safe_points_alone(
    kind: str, number: int, code: int, group: bool, tmp_path: Path
) -> None:
    process = start_jobs(tmp_path, kind)
    while len(list(tmp_path.glob("*.begun"))) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    (os.killpg if group else os.kill)(process.pid, number)
    assert_stopped(process, code)
    assert {path.stem for path in tmp_path.glob("*.begun")} == {"one", "two"}
    safe = {"one", "two"} if kind == "held" else set()
    assert {path.stem for path in tmp_path.glob("*.safe")} == safe


def test_run_jobs_stopped_before_its_workers_are_there_begins_no_job(tmp_path: Path) -> None:
    assert_stopped(start_jobs(tmp_path, "early"), 130)
    assert not list(tmp_path.iterdir())


def test_subprocess_is_handed_a_signal_once(tmp_path: Path) -> None:
    """A second one would end it before its safe point."""
    assert_stopped(start_jobs(tmp_path, "ready"), 130)
    assert (tmp_path / "one.safe").exists() and (tmp_path / "one.log").read_text() == STOPPED


def test_subprocess_that_is_handed_a_signal_as_it_starts_ends_with_one_line(tmp_path: Path) -> None:
    assert_stopped(start_jobs(tmp_path, "starting"), 130)
    assert (tmp_path / "one.log").read_text() == STOPPED


def test_subprocess_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """It reads from a pipe that nothing is written to."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "0.tar").touch()
    os.mkfifo(tmp_path / "pipe")
    process = start_jobs(tmp_path, "command")
    with (tmp_path / "pipe").open("wb") as pipe:  # once it is read
        process.kill()
        process.communicate()
        watch = select.poll()
        watch.register(pipe, 0)
        assert watch.poll(240_000) == [(pipe.fileno(), select.POLLERR)]


def test_hand_to_workers_one_that_has_ended_is_passed_over() -> None:
    """A pool's own thread takes note of an end while another hands a signal on."""
    worker = get_context("spawn").Process(target=int)
    worker.start()
    assert worker.pid is not None
    os.waitpid(worker.pid, 0)
    assert worker in active_children()
    hand_to_workers(0)  # which no process feels
    worker.join()


def test_run_jobs_empty_list_returns_nothing() -> None:
    assert list(run_jobs([], Slots(3), main)) == []


def test_run_jobs_appends_to_an_existing_log(tmp_path: Path) -> None:
    job = Job("help", ["--help"], tmp_path / "log")
    assert [ended.code for ended in run_jobs([job, job], Slots(1, together=True), main)] == [0, 0]
    assert (tmp_path / "log").read_text().count("usage:") == 2


def test_printing_to_captures_file_descriptor_output(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with printing_to(tmp_path / "log"):
        os.write(1, b"from C\n")
        os.write(2, b"and to the other\n")
    os.write(1, b"seen again\n")
    assert (tmp_path / "log").read_text() == "from C\nand to the other\n"
    assert capfd.readouterr().out == "seen again\n"


def test_worker_waits_for_device_that_arrives_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    devices = get_context("spawn").Queue()
    taken = []
    for device in ("2", "5"):
        Timer(0.2, devices.put, [device]).start()
        take_device(devices)
        taken.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert taken == ["2", "5"]


def test_worker_without_devices_keeps_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    take_device(None)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_worker_no_device_left_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "ARRIVAL", 0.1)
    with pytest.raises(Empty):
        take_device(get_context("spawn").Queue())


def test_stop_if_raises_the_worst_exit_code(tmp_path: Path) -> None:
    waits, fails = (Job(name, [], tmp_path / name) for name in ("waits", "fails"))
    (tmp_path / "waits").write_text("first\nsome images have no instruction\n")
    (tmp_path / "fails").write_text("out of memory\n")
    stop_if([])
    with pytest.raises(InstructionsMissing, match="waits did not end: some images have no"):
        stop_if([(waits, 3)])
    with pytest.raises(PreselError, match="fails and 1 more did not end: out of memory") as caught:
        stop_if([(waits, 3), (fails, 1)])
    assert caught.value.exit_code == 1 and str(tmp_path / "fails") in str(caught.value)


def test_stop_if_small_budget_names_the_budgets_key(tmp_path: Path) -> None:
    cell = Job("FromFile-40-0", [], tmp_path / "log")
    (tmp_path / "log").write_text("names 57 samples; set data.budget to 77\n")
    with pytest.raises(PreselError, match="set budgets to 77"):
        stop_if([(cell, 2)])
