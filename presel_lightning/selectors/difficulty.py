"""Difficulty of the samples, by their answer tokens under the pre-instruction model."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from presel_lightning.data.pool import Pool
from presel_lightning.errors import UserError
from presel_lightning.signals import Signals

Difficulty = Literal["error_norm", "margin", "loss"]


def require_difficulty(given: str) -> None:
    """Check the name of a difficulty.

    Raises:
        UserError: it is unknown.
    """
    if given not in (known := get_args(Difficulty)):
        raise UserError(
            f"selector.init_args.difficulty {given!r} is unknown; choose from {', '.join(known)}"
        )


def difficulty_of(pool: Pool, signals: Signals, name: Difficulty) -> np.ndarray:
    """Read the difficulty of every sample, (N,), higher = harder; NaN where there is none."""
    rows = np.arange(len(pool))
    if name == "margin":
        easy: np.ndarray = -signals.token_loss(pool, rows, "margin")
        return easy
    column = "error_norm" if name == "error_norm" else "loss_with_question"
    found: np.ndarray = signals.token_loss(pool, rows, column)
    return found
