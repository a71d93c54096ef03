"""A warning where a selection spends its budget on near copies."""

from __future__ import annotations

import numpy as np
import torch

from presel_lightning.data.pool import Pool
from presel_lightning.functional.near_copies import near_copies
from presel_lightning.records import Selection
from presel_lightning.signals import Signals

LIMIT = 1 / 3
"""Share of a task's selected images from which on near copies are reported."""
FEWEST = 3
"""Selected images of a task from which on the share says anything."""
NAMED = 3
"""Tasks that the warning names."""


def near_copy_warnings(
    pool: Pool, signals: Signals, selection: Selection, *, seed: int
) -> list[str]:
    """Return a warning if more than a third of what a task gives are near copies.

    A near copy is nearer to another selected image, or one of the reference split, than the median
    distance of the task's images to their nearest neighbor.

    Args:
        pool: every sample.
        signals: features.
        selection: result of a selector.
        seed: seed of the samples.
    """
    selected = np.zeros(len(pool), dtype=bool)
    selected[pool.rows(selection.uids)] = True
    found: list[tuple[float, str]] = []
    for task in pool.tasks:
        rows = pool.task_rows(task)
        added = selected[rows]
        if added.sum() < FEWEST:
            continue
        features = torch.from_numpy(signals.features(pool, rows))  # (n, D)
        taken = torch.from_numpy(added | pool.reference[rows])
        copies = int(near_copies(features, taken, seed=seed).numpy()[added].sum())
        if copies > LIMIT * added.sum():
            found.append((copies / added.sum(), f"{task} {copies} of {added.sum()}"))
    if not found:
        return []
    named = ", ".join(text for _, text in sorted(found, reverse=True)[:NAMED])
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    warning = (
        f"selected images lie close together: in {len(found)} of {len(pool.tasks)} tasks more than a "
        "third are nearer to another selected one than the images of the task typically are to their "
        f"nearest neighbor ({named}{more}); they are near copies, or near the mean of the task: look at "
        "them in the report"
    )
    return [warning]
