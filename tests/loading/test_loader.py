"""Loaders whose worker processes outlive a signal to the whole job."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

READING = """
import time
from presel_lightning.run import interruption
interruption.install()
from presel_lightning.loading.loader import Loader
from presel_lightning.run.process_watch import obey_parent

def start_slowly(number):
    if number:  # the first serves a batch meanwhile
        print("starting", flush=True)
        time.sleep(1)
    obey_parent()

with interruption.held():
    batches = iter(Loader(range(4), num_workers=2, worker_init_fn=start_slowly))
    while not interruption.requested():
        time.sleep(0.01)
    print([int(batch) for batch in batches], flush=True)
"""


def test_batches_under_way_come_although_a_signal_meets_workers_that_start() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", READING],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "starting\n"
    os.killpg(process.pid, signal.SIGTERM)
    line = "presel_lightning: stopped; the same command continues from here\n"
    assert process.communicate() == ("[0, 1, 2, 3]\n", line)
    assert process.returncode == 143
