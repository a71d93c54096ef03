"""Training curves of a run, from the files of Lightning's CSVLogger."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from presel_lightning.signals.base import made_by

Json = dict[str, Any]

POINTS = 120
"""Maximum points of a curve on the page; each is the mean of a range of steps."""
WINDOW = 10.0
"""Width of the moving average, in percent of a fit."""


def read_curves(logs: Path, stages: Mapping[str, Json] | None = None) -> list[Json]:
    """Read the loss of every fit that logged it.

    Args:
        logs: folder of the fits' logs.
        stages: of `run.json`, which know the steps of each fit; by default the last step that was
            logged is taken for the last of the fit.

    Returns:
        Of each fit `stage`, and as lists of equal length `share` of the fit in percent, `loss` and
        `smoothed`.
    """
    made = made_by(on_reference=True).items()
    of_signals = [stage for stage, files in made if files[0].startswith("models/")]
    found = []
    for arm in [*of_signals, "final", "random", "full"]:
        if rows := read_losses(logs / arm / "metrics.csv"):
            stage = (stages or {}).get(arm, {})
            steps, losses = (np.array(column, float) for column in zip(*rows, strict=True))
            total = max(stage.get("steps_planned") or stage.get("steps") or 0, steps[-1] + 1)
            share = 100 * (steps + 1) / total
            curve = {"share": share, "loss": losses, "smoothed": moving_average(share, losses)}
            found.append({"stage": arm, **{name: thinned(row) for name, row in curve.items()}})
    return found


def read_losses(path: Path) -> list[tuple[int, float]]:
    """Read step and training loss of each row with one; of a repeated step the last row counts."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as handle:
        rows = [(r["step"], r.get("train_loss")) for r in csv.DictReader(handle) if r.get("step")]
    found = {int(step): float(loss) for step, loss in rows if loss}
    return sorted((step, loss) for step, loss in found.items() if math.isfinite(loss))


def moving_average(x: np.ndarray, y: np.ndarray, width: float = WINDOW) -> np.ndarray:
    r"""Compute the centered moving average of a curve.

    .. math:: \bar y_i = \operatorname{mean} \{ y_j : |x_j - x_i| \le w / 2 \}

    Args:
        x: (N,) ascending.
        y: (N,) values.
        width: w, in units of x.

    Returns:
        (N,) averages.
    """
    sums = np.concatenate([[0.0], np.cumsum(y)])
    first = np.searchsorted(x, x - width / 2, side="left")
    last = np.searchsorted(x, x + width / 2, side="right")
    average: np.ndarray = (sums[last] - sums[first]) / (last - first)
    return average


def thinned(values: np.ndarray) -> list[float]:
    """Downsample to at most POINTS means of ranges of equal length."""
    parts = np.array_split(values, min(POINTS, len(values)))
    return [round(float(part.mean()), 5) for part in parts]
