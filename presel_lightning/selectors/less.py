"""LESS (ICML 2024): the samples whose gradients point where those of a task do."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from presel_lightning.data.pool import Pool
from presel_lightning.functional.gradient_votes import mean_cosines, mean_directions
from presel_lightning.selectors.by_score import ScoreSelector
from presel_lightning.selectors.gradients import read_gradients
from presel_lightning.signals import Gradients, Signals


class Less(ScoreSelector):
    r"""Select the highest cosine with the validation gradients, of the task where it is highest.

    .. math:: \mathrm{score}_i = \max_t \frac{1}{|V_t|} \sum_{v \in V_t} \cos(g_i, g_v)

    Needs the instructions of the whole pool. Budget: over the whole pool; tasks are those of the
    validation set (`validation`, by default the reference split).

    Differences to the paper: one checkpoint, the reference model, in the place of four of a warm-up; the
    mean is of cosines, where the published code averages validation gradients first. The paper's
    training gradients are preconditioned by the moments of Adam: `gradient_update: adam`.

    Source: Xia, Malladi, Gururangan, Arora, Chen, "LESS: Selecting Influential Data for Targeted
    Instruction Tuning", ICML 2024, Equation 4.
    """

    needs: ClassVar[tuple[str, ...]] = (Gradients.name,)
    reason = "gradient like those of a task"

    def score(self, pool: Pool, signals: Signals, *, seed: int) -> np.ndarray:
        """Compute the cosines; the seed is not used."""
        read = read_gradients(pool, signals)
        directions = mean_directions(read.validation, read.task, max(1, read.n_tasks))
        return read.scores(pool, mean_cosines(read.gradients, directions).max(axis=1))
