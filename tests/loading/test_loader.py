"""Loaders whose worker processes outlive a signal to the whole job."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress

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

STARTING = r"""
import os, time
from presel_lightning.loading.loader import Loader
from presel_lightning.run.process_watch import obey_parent

parent = os.getpid()

def start_late(number):
    os.write(1, b"starting\n")  # a line at once, as both print
    while os.getppid() == parent:
        time.sleep(0.01)
    obey_parent()

batches = iter(Loader(range(4), num_workers=2, worker_init_fn=start_late))
next(batches)
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


def test_workers_that_start_as_their_parent_is_killed_end_too() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STARTING], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["starting\n"] * 2
    process.kill()
    try:
        assert process.communicate(timeout=300)[0] == ""  # at the end of all that hold the pipe
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
