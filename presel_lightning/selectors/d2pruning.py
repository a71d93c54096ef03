"""D2 Pruning (ICLR 2024): difficult samples that are far from those already selected."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from presel_lightning.data.pool import Pool
from presel_lightning.functional.greedy import pick_and_lower
from presel_lightning.functional.medoids import repeated
from presel_lightning.functional.neighbors import nearest_neighbors
from presel_lightning.records import Selection
from presel_lightning.run.ranges import Count, NonNegative
from presel_lightning.selectors.base import Selector
from presel_lightning.selectors.by_score import scored_first, select_in_order, with_facts
from presel_lightning.selectors.difficulty import Difficulty, difficulty_of, require_difficulty
from presel_lightning.signals import Features, Signals, TokenLoss


class D2Pruning(Selector):
    r"""Pass difficulty over a graph of nearest neighbors, and select by what it becomes.

    With s the difficulty, scaled to 0 … 1, and d Euclidean distances of features of unit length:

    .. math:: x_i = s_i + \sum_{j \in \mathrm{kNN}(i)} e^{-d_{ij}} s_j

    Then, again and again, the highest x is selected, and
    :math:`x_j \leftarrow x_j - e^{-\gamma d_{ij}} x_i` for its neighbors.

    Needs the instructions of the whole pool. Budget: over the whole pool; tasks are ignored.

    Differences to the paper: difficulty is that of the answer tokens under the pre-instruction
    model, and features are those of the image encoder; a heap finds the highest value. Of images with
    equal features the first by uid is in the graph, and the others come after all that are.

    Args:
        difficulty: `error_norm` (EL2N), `margin` (its negative) or `loss` of the answer tokens.
        neighbors: neighbors of a sample in the graph.
        gamma: how fast the penalty falls with distance.

    Raises:
        UserError: `difficulty` is unknown.

    Source: Maharana, Yadav, Bansal, "D2 Pruning: Message Passing for Balancing Diversity and
    Difficulty in Data Pruning", ICLR 2024.
    """

    needs: ClassVar[tuple[str, ...]] = (Features.name, TokenLoss.name)

    def __init__(
        self,
        difficulty: Difficulty = "error_norm",
        neighbors: Count = 10,
        gamma: NonNegative = 1.0,
    ) -> None:
        require_difficulty(difficulty)
        self.difficulty, self.neighbors, self.gamma = difficulty, neighbors, gamma

    def select(self, pool: Pool, signals: Signals, budget: int, *, seed: int) -> Selection:
        """Build the graph, and select one sample after another; the seed is not used."""
        hard = difficulty_of(pool, signals, self.difficulty)
        rows = np.flatnonzero(np.isfinite(hard) & ~pool.reference)
        score = np.full(len(pool), np.nan)
        picked = copies = rows[:0]
        if len(rows):
            features = torch.from_numpy(signals.features(pool, rows))  # (n, D)
            first = ~repeated(features, torch.zeros(len(rows), dtype=torch.bool))
            copies, rows = rows[~first.numpy()], rows[first.numpy()]
            places, near = nearest_neighbors(features[first], self.neighbors)
            value, factors = messages(hard[rows], places.numpy(), near.numpy(), self.gamma)
            score[rows], score[copies] = value, 0.0
            picked = rows[pick_and_lower(value, places.numpy(), factors, min(budget, len(rows)))]
        rest = scored_first(pool, score)
        rest = rest[~np.isin(rest, np.concatenate([picked, copies]))]
        known = np.isfinite(score[rest])
        order = np.concatenate([picked, rest[known], copies, rest[~known]])
        reason = "difficult, and far from what is selected"
        selection = select_in_order(pool, order[:budget], order, score, reason)
        return with_facts(selection, pool, signals, {"difficulty": hard, "message": score})


def messages(
    hard: np.ndarray, places: np.ndarray, cosines: np.ndarray, gamma: float
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the values x (n,) and the factors (n, k) that a pick lowers its neighbors by.

    Args:
        hard: (n,) difficulties.
        places: (n, k) neighbors of each.
        cosines: (n, k) their cosines; the distance of unit vectors is sqrt(2 - 2 cos).
        gamma: of the factors.
    """
    spread = np.ptp(hard)
    scaled = (hard.astype(np.float64) - hard.min()) / (spread if spread > 0 else 1.0)
    apart = np.sqrt(np.maximum(2 - 2 * cosines.astype(np.float64).round(6), 0))
    value = scaled + (np.exp(-apart) * scaled[places]).sum(axis=1)
    return value.round(9), np.exp(-gamma * apart)
