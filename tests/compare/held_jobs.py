"""Jobs that end when they are stopped alone; `tests/compare/test_jobs.py` stops who runs them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from presel_lightning.compare.jobs import Job, Slots, run_jobs
from presel_lightning.run import interruption


def work(arguments: Sequence[str]) -> int:
    """Come to a safe point after a signal only."""
    place = Path(arguments[0])
    with interruption.held():
        place.with_suffix(".begun").touch()
        while not interruption.requested():
            time.sleep(0.01)
        time.sleep(0.3)
        place.with_suffix(".safe").touch()
    return 0


def endless(arguments: Sequence[str]) -> int:
    """Hold nothing off, and come to no end."""
    Path(arguments[0]).with_suffix(".begun").touch()
    while True:
        time.sleep(0.01)


class Early(list[Job]):
    """Jobs before whose first one the program is asked to stop."""

    def __iter__(self) -> Iterator[Job]:
        os.kill(os.getpid(), signal.SIGINT)
        while not interruption.requested():
            time.sleep(0.01)
        return super().__iter__()


CHILD = """
import sys, time
from pathlib import Path
from presel_lightning.run import interruption

place = Path(sys.argv[1])
time.sleep(1)
interruption.install()
with interruption.held():
    place.with_suffix(".begun").touch()
    while not interruption.requested():
        time.sleep(0.01)
    time.sleep(3 * interruption.SAME)  # until then a second signal would end it
    place.with_suffix(".safe").touch()
"""


def start_process(place: Path, kind: str) -> None:
    """Run a job in a subprocess that is there when the program is asked to stop.

    Args:
        place: of the files of the job.
        kind: `ready`, where the subprocess has begun its work and this one hands signals on late, or
            `starting`.
    """
    start = subprocess.Popen

    def interrupted(_: object, **options: Any) -> subprocess.Popen[bytes]:
        process = start([sys.executable, "-c", CHILD, str(place)], **options)
        while kind == "ready" and not place.with_suffix(".begun").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        while not interruption.requested():
            time.sleep(0.01)
        return process

    subprocess.Popen = interrupted  # type: ignore[misc,assignment]
    with interruption.held(lambda _: time.sleep(2 * interruption.SAME * (kind == "ready"))):
        list(run_jobs([Job("one", [], place.with_suffix(".log"))], Slots(1, together=True), work))


if __name__ == "__main__":
    interruption.install()
    place, kind = Path(sys.argv[1]), sys.argv[2]
    if kind == "command":
        words = ["--input", str(place / "in"), "--subset", str(place / "pipe")]
        words += ["--output", str(place / "out")]
        list(run_jobs([Job("one", ["reshard", *words])], Slots(1, together=True), work))
    if kind in ("ready", "starting"):
        start_process(place / "one", kind)
    jobs = [Job(name, [str(place / name)]) for name in ("one", "two", "three")]
    main = work if kind == "held" else endless
    for _ in run_jobs(Early(jobs) if kind == "early" else jobs, Slots(2), main):
        print("a job has ended")
