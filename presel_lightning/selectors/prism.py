"""PRISM (2025): the images with the lowest mean correlation in their task."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from presel_lightning.data.pool import Pool
from presel_lightning.functional.prism import mean_correlation
from presel_lightning.records import Selection
from presel_lightning.selectors.base import Selector, best_first, budgets_by_size, selection_of
from presel_lightning.signals import Features, Signals


class Prism(Selector):
    r"""Select the images whose features correlate least with those of their task.

    .. math:: \mathrm{score}_i = -\frac{1}{N} \sum_j \rho(x_i, x_j)
        = -\langle z_i, \bar z \rangle

    with rho Pearson's correlation and z the rows centered by their own mean and normalized: linear
    in the number of images.

    Budget: per task, in proportion to its images: the paper selects the lowest quantile of every
    task. The mean is over all images of the task, the reference split included.

    Differences to the paper: the paper pools the visual tokens of the model that is tuned, here
    features are those of the image encoder of the `features` stage, as for every other method; the
    selection is exactly the budget, ties by uid. No published code was available to compare with.

    Source: PRISM, arXiv 2502.12119.
    """

    needs: ClassVar[tuple[str, ...]] = (Features.name,)

    def select(self, pool: Pool, signals: Signals, budget: int, *, seed: int) -> Selection:
        """Select the lowest mean correlations of each task; the seed is not used."""
        score = np.full(len(pool), np.nan)
        rank = np.full(len(pool), -1, dtype=np.int64)
        selected: list[np.ndarray] = []
        for task, share in zip(pool.tasks, budgets_by_size(pool, budget), strict=True):
            rows = pool.task_rows(task)
            features = torch.from_numpy(signals.features(pool, rows))  # (n, D)
            score[rows] = -mean_correlation(features).round(decimals=12).numpy()
            order = best_first(pool, score, rows)
            rank[order] = np.arange(len(order))
            selected.append(order[:share])
        return selection_of(
            pool,
            np.concatenate(selected),
            score,
            rank,
            reason="low mean correlation in its task",
            otherwise="high mean correlation in its task",
        )
