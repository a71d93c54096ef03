"""Jobs that end when they are stopped alone; `tests/compare/test_jobs.py` stops who runs them."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

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


if __name__ == "__main__":
    interruption.install()
    place, kind = Path(sys.argv[1]), sys.argv[2]
    jobs = [Job(name, [str(place / name)]) for name in ("one", "two", "three")]
    main = work if kind == "held" else endless
    for _ in run_jobs(Early(jobs) if kind == "early" else jobs, Slots(2), main):
        print("a job has ended")
