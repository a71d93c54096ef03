"""Two jobs that may not end at once; `tests/compare/test_jobs.py` stops the process that runs them."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
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


if __name__ == "__main__":
    interruption.install()
    jobs = [Job(name, [str(Path(sys.argv[1]) / name)]) for name in ("one", "two")]
    for _ in run_jobs(jobs, Slots(2), work):
        print("a job has ended")
