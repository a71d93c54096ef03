"""VisNec (2026): the samples whose answer needs the image, of every group of like texts."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from presel_lightning.data.pool import Pool
from presel_lightning.functional.allocation import allocate
from presel_lightning.functional.kmeans import kmeans
from presel_lightning.records import Selection
from presel_lightning.run.ranges import Count
from presel_lightning.selectors.base import Selector
from presel_lightning.selectors.by_score import scored_first, select_in_order, with_facts
from presel_lightning.signals import Signals, TokenLoss


class VisNec(Selector):
    r"""Select the highest visual necessity of each cluster of texts.

    .. math:: \mathrm{VN}_i = L_{R|Q} - L_{R|Q,I}

    k-means on the texts; of every cluster the same fraction is selected.

    Needs the instructions of the whole pool. Budget: over the clusters, in proportion to the
    samples that have a score, by largest remainder.

    Differences to the paper: the published code rounds down in each cluster and so misses the budget;
    it gives a text-only record the score 0, here it is no part of the pool. Texts are compared by
    the mean of the last hidden states of the pass without image, which is made for the loss in any
    case, where the paper takes a text encoder of its own. The number of clusters follows from the size
    of the pool.

    Args:
        samples_per_cluster: a pool of N samples gets max(1, N // this) clusters.

    Source: VisNec, arXiv 2603.01195, ECCV 2026.
    """

    needs: ClassVar[tuple[str, ...]] = (TokenLoss.name,)

    def __init__(self, samples_per_cluster: Count = 1000) -> None:
        self.samples_per_cluster = samples_per_cluster

    def select(self, pool: Pool, signals: Signals, budget: int, *, seed: int) -> Selection:
        """Cluster the texts, and select the highest scores of each cluster."""
        score = visual_necessity(pool, signals)
        cluster = self.clusters(pool, signals, np.isfinite(score), seed)
        order = scored_first(pool, score)
        free = ~pool.reference & (cluster >= 0)
        sizes = torch.from_numpy(np.bincount(cluster[free], minlength=1))
        quota = allocate(sizes, sizes, min(budget, int(sizes.sum()))).tolist()
        own = cluster[order]
        rows = [order[own == number][:share] for number, share in enumerate(quota)]
        rows.append(order[own < 0][: budget - sum(quota)])
        reason = "high visual necessity in its cluster"
        selection = select_in_order(pool, np.concatenate(rows), order, score, reason, cluster)
        return with_facts(selection, pool, signals, {"visual_necessity": score})

    def clusters(self, pool: Pool, signals: Signals, known: np.ndarray, seed: int) -> np.ndarray:
        """Cluster the texts of the samples that have a score, (N,); -1 for the others."""
        cluster = np.full(len(pool), -1, dtype=np.int64)
        rows = np.flatnonzero(known)
        if not len(rows):
            return cluster
        text = torch.from_numpy(signals.token_loss(pool, rows, "text"))  # (n, D)
        wanted = max(1, len(rows) // self.samples_per_cluster)
        cluster[rows] = kmeans(text.nan_to_num(), wanted, seed=seed).labels.numpy()
        return cluster


def visual_necessity(pool: Pool, signals: Signals) -> np.ndarray:
    """Compute L(R|Q) - L(R|Q,I) of every sample, (N,) float64; NaN where one is not known."""
    rows = np.arange(len(pool))
    without = signals.token_loss(pool, rows, "loss_without_image").astype(np.float64)
    necessity: np.ndarray = without - signals.token_loss(pool, rows, "loss_with_question")
    return necessity
