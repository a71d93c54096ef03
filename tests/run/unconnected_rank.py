"""Kills the second process before it opens its connections; the first waits a short time for them."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from typing import NoReturn

from presel_lightning.run import ranks


def killed() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


if __name__ == "__main__":
    ranks.START_TIMEOUT = timedelta(seconds=5)
    if os.environ["SLURM_PROCID"] == "1":
        ranks.gloo_group = killed  # type: ignore[assignment]
