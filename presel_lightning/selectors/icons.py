"""ICONS (2025): the samples that most tasks vote for."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from presel_lightning.data.pool import Pool
from presel_lightning.functional.gradient_votes import (
    mean_cosines,
    mean_directions,
    voted_order,
    votes,
)
from presel_lightning.run.ranges import Fraction
from presel_lightning.selectors.by_score import ScoreSelector
from presel_lightning.selectors.gradients import read_gradients
from presel_lightning.signals import Gradients, Signals


class Icons(ScoreSelector):
    r"""Select by the votes of the tasks; each votes for its most influential samples.

    The influence of sample i on task t is its mean cosine with the gradients of the task's validation
    samples; the best `share` of the samples get a vote. Ties go by the mean influence over the tasks,
    then by uid. The score is minus the place in that order.

    Needs the instructions of the whole pool. Budget: over the whole pool; tasks are those of the
    validation set (`validation`, by default the reference split).

    Differences to the paper: its many ties are broken by the sort, that is by position in the file;
    validation sets are those of the benchmarks there, MME's parts counted as one by their maximum.

    Args:
        share: fraction of the samples that a task votes for.

    Source: Wu et al., "ICONS: Influence Consensus for Vision-Language Data Selection", arXiv
    2501.00654.
    """

    needs: ClassVar[tuple[str, ...]] = (Gradients.name,)
    reason = "many tasks vote for it"

    def __init__(self, share: Fraction = 0.2) -> None:
        self.share = share

    def score(self, pool: Pool, signals: Signals, *, seed: int) -> np.ndarray:
        """Order by votes; the seed is not used."""
        read = read_gradients(pool, signals)
        directions = mean_directions(read.validation, read.task, max(1, read.n_tasks))
        influence = mean_cosines(read.gradients, directions)
        free = ~pool.reference[read.rows]
        counted = votes(influence[free], self.share)
        order = voted_order(counted, influence[free].mean(axis=1))
        score = np.full(len(pool), np.nan)
        score[read.rows[free][order]] = -np.arange(len(order), dtype=np.float64)
        return score
