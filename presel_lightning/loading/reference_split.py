"""Random draw of the reference split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from presel_lightning.functional import proportional_split


def draw_from_tasks(
    rows: Sequence[np.ndarray], total: int, seed: int, first: np.ndarray, never: np.ndarray
) -> np.ndarray:
    """Draw samples at random, each task in proportion to its size.

    A sample that is never drawn gives its place to the next one of its task and changes no other,
    unless its task has too few left.

    Args:
        rows: row numbers of each task that may be drawn.
        total: samples to draw, at least one a task.
        seed: of the draw.
        first: (N,) bool, samples that were drawn before and go first.
        never: (N,) bool, samples that are not drawn.

    Returns:
        Row numbers, ascending.
    """
    sizes = torch.tensor([len(own) for own in rows])
    left = torch.tensor([int((~never[own]).sum()) for own in rows])
    shares = proportional_split(sizes, min(total, int(sizes.sum())))
    if (shares > left).any():
        shares = proportional_split(left, min(total, int(left.sum())))
    rng = np.random.default_rng(seed)
    drawn = []
    for own, n in zip(rows, shares.tolist(), strict=True):
        order = rng.permutation(own)
        order = order[~never[order]]
        drawn.append(order[np.argsort(~first[order], kind="stable")][:n])
    return np.sort(np.concatenate(drawn))
