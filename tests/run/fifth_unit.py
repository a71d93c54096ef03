"""Kills its process before it says that a fifth unit of the stages together is done."""

from __future__ import annotations

import os
import signal
from itertools import count

from presel_lightning.run.units import Manifest, Stage

finish, numbers = Stage.finish, count()


def fifth(stage: Stage, number: int, manifest: Manifest) -> None:
    if next(numbers) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    finish(stage, number, manifest)


if __name__ == "__main__":  # not where doctests are collected
    Stage.finish = fifth  # type: ignore[assignment,method-assign]
