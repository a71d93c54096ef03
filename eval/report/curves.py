"""Training curves of a run, from the files of Lightning's CSVLogger."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np

from presel_lightning.signals.base import made_by

Json = dict[str, Any]

POINTS = 120
"""Maximum points of a curve on the page; each is the mean of a range of steps."""


def read_curves(logs: Path) -> list[Json]:
    """Read the loss by step of every fit that logged it: `stage`, `steps` and `loss`."""
    made = made_by(on_reference=True).items()
    of_signals = [stage for stage, files in made if files[0].startswith("models/")]
    arms = [*of_signals, "final", "random", "full"]
    curves = [(arm, read_losses(logs / arm / "metrics.csv")) for arm in arms]
    return [{"stage": arm, **thinned(*zip(*rows, strict=True))} for arm, rows in curves if rows]


def read_losses(path: Path) -> list[tuple[int, float]]:
    """Read step and training loss of each row with one; of a repeated step the last row counts."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as handle:
        rows = [(r["step"], r.get("train_loss")) for r in csv.DictReader(handle) if r.get("step")]
    found = {int(step): float(loss) for step, loss in rows if loss}
    return sorted((step, loss) for step, loss in found.items() if math.isfinite(loss))


def thinned(steps: tuple[int, ...], losses: tuple[float, ...]) -> Json:
    """Downsample a curve to at most POINTS points."""
    cuts = np.array_split(np.arange(len(steps)), min(POINTS, len(steps)))
    return {
        "steps": [float(np.mean([steps[i] for i in cut])) for cut in cuts],
        "loss": [round(float(np.mean([losses[i] for i in cut])), 5) for cut in cuts],
    }
