"""TIVE (2024): tasks by the size of their gradients, samples by how well they stand for theirs."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch

from presel_lightning.data.pool import Pool
from presel_lightning.functional.allocation import allocate
from presel_lightning.functional.gradient_votes import (
    mean_cosines,
    mean_directions,
    softmax_order,
)
from presel_lightning.records import Selection
from presel_lightning.run.ranges import NonNegative
from presel_lightning.selectors.base import Selector
from presel_lightning.selectors.by_score import scored_first, select_in_order, with_facts
from presel_lightning.selectors.gradients import read_gradients
from presel_lightning.signals import Gradients, Signals


class Tive(Selector):
    r"""Give tasks of large gradients more, and draw in each by the likeness to its gradients.

    The share of a task is its mean gradient norm over the sum of these. The value of a sample is its
    mean cosine with the gradients of its task, and it is drawn without replacement with chances in
    proportion to :math:`e^{q\,\mathrm{value}}`.

    Needs the instructions of the whole pool. Budget: per task; what a task cannot fill goes to the
    others. Linear in the number of samples: the mean cosine is the product with the mean direction.

    Differences to the published code: it fills a task above its size by repeating samples, leaves one
    task (TextCaps) out, and makes an N x N table a task. At the published q the draw is nearly
    uniform.

    Args:
        sharpness: q, 0 for a uniform draw.

    Source: Liu et al., "Less is More: High-value Data Selection for Visual Instruction Tuning", arXiv
    2403.09559.
    """

    needs: ClassVar[tuple[str, ...]] = (Gradients.name,)

    def __init__(self, sharpness: NonNegative = 1e-3) -> None:
        self.sharpness = sharpness

    def select(self, pool: Pool, signals: Signals, budget: int, *, seed: int) -> Selection:
        """Allocate the budget by gradient norms, and draw in each task."""
        read = read_gradients(pool, signals, validated=False)
        names = {name: number for number, name in enumerate(pool.tasks)}
        task = np.array([names[name] for name in pool.task[read.rows]], dtype=np.int64)
        directions = mean_directions(read.gradients, task, len(names))
        cosines = mean_cosines(read.gradients, directions)
        value = read.scores(pool, cosines[np.arange(len(task)), task])
        norm = signals.gradients(pool, read.rows, "norm").astype(np.float64)
        total = np.bincount(task, weights=norm, minlength=len(names))
        means = total / np.maximum(1, np.bincount(task, minlength=len(names)))
        shares = means / means.sum() if means.any() else np.full(len(names), 1 / len(names))
        free = ~pool.reference[read.rows]
        sizes = np.bincount(task[free], minlength=len(names))
        quota = allocate(torch.from_numpy(shares), torch.from_numpy(sizes), budget).tolist()
        rng = np.random.default_rng([seed, 5])
        drawn = [read.rows[:0]]
        for number, count in enumerate(quota):
            own = read.rows[free & (task == number)]
            drawn.append(own[softmax_order(value[own], self.sharpness, rng)][:count])
        picked = np.concatenate(drawn)
        rest = scored_first(pool, value)
        order = np.concatenate([picked, rest[~np.isin(rest, picked)]])
        reason = "drawn by its likeness to its task's gradients"
        selection = select_in_order(pool, order[:budget], order, value, reason)
        shared = dict(zip(pool.tasks, shares.tolist(), strict=True))
        found = replace(selection, task_weights=shared)
        return with_facts(found, pool, signals, {"value": value})
