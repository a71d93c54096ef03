"""Waits once the first checkpoint of a fit is written, to be killed there."""

from __future__ import annotations

import time

from lightning import Trainer

from presel_lightning.callbacks import StepCheckpoint

save = StepCheckpoint.save


def held(callback: StepCheckpoint, trainer: Trainer) -> None:
    save(callback, trainer)
    while True:
        time.sleep(1)


if __name__ == "__main__":  # not where doctests are collected
    StepCheckpoint.save = held  # type: ignore[assignment,method-assign]
