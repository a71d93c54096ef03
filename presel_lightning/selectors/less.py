"""LESS (ICML 2024): the samples whose gradients point where those of a task do."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from presel_lightning.data.pool import Pool
from presel_lightning.functional.gradient_votes import (
    influence_over_checkpoints,
    mean_directions,
)
from presel_lightning.selectors.by_score import ScoreSelector
from presel_lightning.selectors.gradients import read_checkpoints
from presel_lightning.signals import Gradients, Signals


class Less(ScoreSelector):
    r"""Select the highest cosine with the validation gradients, of the task where it is highest.

    .. math:: \mathrm{score}_i = \max_t \frac{1}{\sum_c \eta_c} \sum_c \eta_c
        \frac{1}{|V_t|} \sum_{v \in V_t} \cos(g_{ic}, g_{vc})

    with c the checkpoints of the reference fit (`warmup_checkpoints`, by default its end alone) and
    :math:`\eta_c` the mean learning rate of the part of the fit that each of them ends.

    Needs the instructions of the whole pool. Budget: over the whole pool; tasks are those of the
    validation set (`validation`, by default the reference split).

    Differences to the paper: the warm-up is the reference fit, on the reference split; the mean is of
    cosines, as in the published code, where the paper averages validation gradients first. The paper
    has four checkpoints, each at the end of an epoch, and training gradients that are preconditioned
    by the moments of Adam: `warmup_checkpoints: 4` over four epochs, and `gradient_update: adam`.

    Source: Xia, Malladi, Gururangan, Arora, Chen, "LESS: Selecting Influential Data for Targeted
    Instruction Tuning", ICML 2024, Sections 3 and 4.
    """

    needs: ClassVar[tuple[str, ...]] = (Gradients.name,)
    reason = "gradient like those of a task"

    def score(self, pool: Pool, signals: Signals, *, seed: int) -> np.ndarray:
        """Compute the cosines; the seed is not used."""
        reads = read_checkpoints(pool, signals)
        checkpoints = [
            (read.gradients, mean_directions(read.validation, read.task, max(1, read.n_tasks)))
            for read in reads
        ]
        influence = influence_over_checkpoints(checkpoints, signals.of(Gradients).rates())
        return reads[-1].scores(pool, influence.max(axis=1))
