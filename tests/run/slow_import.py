"""A stage whose module takes long to import where the server of the workers does so."""

from __future__ import annotations

import os
import sys
import time

if "presel_lightning.run.executors" not in sys.modules:
    print("importing", flush=True)
    time.sleep(1)

from presel_lightning.run.units import Stage


class SlowImport(Stage):
    """Units that take a while."""

    def defined_by(self, number: int) -> object:
        return number

    def __call__(self, number: int) -> None:
        os.write(1, b"working\n")  # a line at once, as several print
        time.sleep(600)
