"""Self-Filter (ACL 2024 Findings): samples that a scoring net learns to call difficult."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from presel_lightning.data.pool import Pool
from presel_lightning.functional.greedy import pick_and_lower
from presel_lightning.functional.neighbors import nearest_neighbors
from presel_lightning.records import Selection
from presel_lightning.run.ranges import Count, NonNegative, Positive
from presel_lightning.selectors.base import Selector
from presel_lightning.selectors.by_score import scored_first, select_in_order, with_facts
from presel_lightning.signals import ClipSimilarity, Signals, TokenLoss

BATCH = 128
"""Samples whose weights compete in one step."""


class SelfFilter(Selector):
    r"""Select difficult samples, and penalize the neighbors of each selected one.

    A linear net on the vectors of image and text gives each sample of a batch a weight, and learns to
    lower the weighted loss; the difficulty is the negative of its output u:

    .. math:: w = B \, \mathrm{softmax}(u), \quad \min \frac{1}{B} \sum_i w_i L_i, \quad
        x_i = -u_i

    Then, again and again, the highest x is selected, and its 10 nearest neighbors get
    :math:`x_j \leftarrow x_j - \gamma \, x_i \cos^2_{ij}`.

    Needs the instructions of the whole pool. Budget: over the whole pool; tasks are ignored.

    Differences to the paper: it trains the image-text model on all data together with the net (73.5
    GPU-hours in PreSel's table); here L are the losses of the frozen pre-instruction model, so that
    the net learns which pairs that model finds difficult, at the cost of a forward pass. Difficulties
    are scaled to 0 … 1, so that no penalty raises a value; those of the paper may be negative. A
    heap finds the highest value, where the published code sorts all values at every pick.

    Args:
        gamma: strength of the penalty.
        neighbors: samples that are penalized.
        epochs: passes of the net over the samples.
        lr: learning rate of the net (plain SGD: Adam steps as far along noise as along the signal).

    Source: Chen et al., "Your Vision-Language Model Itself Is a Strong Filter: Towards High-Quality
    Instruction Tuning with Data Selection", Findings of ACL 2024.
    """

    needs: ClassVar[tuple[str, ...]] = (ClipSimilarity.name, TokenLoss.name)

    def __init__(
        self,
        gamma: NonNegative = 1.0,
        neighbors: Count = 10,
        epochs: Count = 10,
        lr: Positive = 1.0,
    ) -> None:
        self.gamma, self.neighbors, self.epochs, self.lr = gamma, neighbors, epochs, lr

    def select(self, pool: Pool, signals: Signals, budget: int, *, seed: int) -> Selection:
        """Train the net, and select one sample after another."""
        everything = np.arange(len(pool))
        loss = signals.token_loss(pool, everything, "loss_with_question")
        known = np.isfinite(loss) & np.isfinite(
            signals.clip_similarity(pool, everything, "similarity")
        )
        score = np.full(len(pool), np.nan)
        rows = np.flatnonzero(known)
        picked = rows[:0]
        if len(rows):
            sides = [signals.clip_similarity(pool, rows, side) for side in ("image", "text")]
            features = torch.from_numpy(np.concatenate(sides, axis=1))  # (n, 2 D)
            difficulty = self.difficulty(features, torch.from_numpy(loss[rows]), seed)
            score[rows] = difficulty
            free = ~pool.reference[rows]
            picked = rows[free][self.picks(features[free], difficulty[free], budget)]
        rest = scored_first(pool, score)
        order = np.concatenate([picked, rest[~np.isin(rest, picked)]])
        reason = "difficult, and unlike what is selected"
        selection = select_in_order(pool, order[:budget], order, score, reason)
        return with_facts(selection, pool, signals, {"difficulty": score})

    def difficulty(self, features: Tensor, losses: Tensor, seed: int) -> np.ndarray:
        """Train the net, and scale its negative outputs to 0 … 1, (n,) float64.

        Args:
            features: (n, D) vectors.
            losses: (n,) mean losses of the answers.
            seed: of the batches.
        """
        net = nn.Linear(features.shape[1], 1, dtype=torch.float64)
        nn.init.zeros_(net.weight)
        nn.init.zeros_(net.bias)
        optimizer = torch.optim.SGD(net.parameters(), lr=self.lr)
        generator = torch.Generator().manual_seed(seed)
        for _ in range(self.epochs):
            for rows in torch.randperm(len(features), generator=generator).split(BATCH):
                weights = net(features[rows].double())[:, 0].softmax(dim=0)
                optimizer.zero_grad()
                torch.autograd.backward((weights * losses[rows].double()).sum())
                optimizer.step()
        with torch.no_grad():
            found = -torch.cat([net(part.double())[:, 0] for part in features.split(4096)])
        found = (found - found.min()) / (found.max() - found.min()).clamp(min=1e-12)
        scaled: np.ndarray = found.round(decimals=9).numpy()
        return scaled

    def picks(self, features: Tensor, difficulty: np.ndarray, budget: int) -> np.ndarray:
        """Select rows of the free samples (n, D) in order."""
        places, cosines = nearest_neighbors(features, self.neighbors)
        factors = self.gamma * cosines.double().square().numpy()
        return pick_and_lower(difficulty, places.numpy(), factors, min(budget, len(features)))
