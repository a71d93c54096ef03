"""COINCIDE (EMNLP 2024): clusters of skills, weighted by how they transfer and how diverse they are."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from presel_lightning.data.pool import Pool
from presel_lightning.functional import coincide as rules
from presel_lightning.functional.datatailor import members_of
from presel_lightning.functional.spherical import spherical_kmeans
from presel_lightning.records import Selection
from presel_lightning.run.ranges import Count, Positive
from presel_lightning.selectors.base import Selector
from presel_lightning.selectors.by_score import scored_first, select_in_order, with_facts
from presel_lightning.signals import LayerFeatures, Signals


class Coincide(Selector):
    r"""Cluster inner activations, and select more from transferable and diverse clusters.

    Spherical k-means on the signal `layer_features`. With S the mean cosine of the text part of a
    cluster's centroid with those of others (cosines above 0.9 left out), and D the mean Gaussian
    kernel of a cluster (sigma 1):

    .. math:: P_c \propto e^{S_c / (D_c \tau)}

    Clusters get their part of the budget in the order of P; inside a cluster samples are picked one by
    one so that the squared maximum mean discrepancy to the whole cluster stays smallest.

    Needs the instructions of the whole pool. Budget: over the clusters; tasks are ignored.

    Differences to the published code: it reads TinyLLaVA-2B at fixed layers and lengths, here it is
    the model of the run, at five layers in the same places of its depth; k-means is our own, on
    blocks of rows, so that the activations are never in memory at once; the budget is met exactly.
    The mean of the kernel counts each sample with itself, so that a cluster of one has density 1.

    Args:
        samples_per_cluster: a pool of N samples gets max(1, N // this) clusters; 66 is the 10,000 of
            the paper for LLaVA-665K.
        temperature: tau.
        iterations: maximum passes of k-means.

    Source: Lee, Li, Hwang, "Concept-skill Transferability-based Data Selection for Large
    Vision-Language Models", EMNLP 2024.
    """

    needs: ClassVar[tuple[str, ...]] = (LayerFeatures.name,)

    def __init__(
        self, samples_per_cluster: Count = 66, temperature: Positive = 0.1, iterations: Count = 20
    ) -> None:
        self.samples_per_cluster, self.temperature = samples_per_cluster, temperature
        self.iterations = iterations

    def select(self, pool: Pool, signals: Signals, budget: int, *, seed: int) -> Selection:
        """Cluster, share the budget among the clusters, and pick from each."""
        rows, places = self.known(pool, signals)
        score = np.full(len(pool), np.nan)
        cluster = np.full(len(pool), -1, dtype=np.int64)
        picked = rows[:0]
        if len(rows):
            features = signals.of(LayerFeatures).column("features")
            wanted = max(1, len(rows) // self.samples_per_cluster)
            found = spherical_kmeans(features, places, wanted, seed=seed, n_iter=self.iterations)
            cluster[rows] = labels = found.labels.numpy()
            half = features.shape[1] // 2  # image part, then text part
            transfer = rules.transferability(found.centroids[:, half:].double().numpy())
            members = members_of(labels)
            density = [self.kernel(features, places[own]).mean() for own in members if len(own)]
            filled = [own for own in members if len(own)]
            shares = rules.cluster_shares(
                transfer[[labels[own[0]] for own in filled]], np.array(density), self.temperature
            )
            free = ~pool.reference[rows]
            sizes = np.array([free[own].sum() for own in filled])
            quota = rules.cluster_quotas(shares, sizes, budget)
            for own, share in zip(filled, shares, strict=True):
                score[rows[own]] = share
            chosen = [
                own[self.pick(features, places[own], free[own], n)]
                for own, n in zip(filled, quota, strict=True)
                if n
            ]
            picked = rows[np.concatenate(chosen)] if chosen else picked
        rest = scored_first(pool, score)
        order = np.concatenate([picked, rest[~np.isin(rest, picked)]])
        reason = "stands for its cluster of activations"
        selection = select_in_order(pool, order[:budget], order, score, reason, cluster)
        return with_facts(selection, pool, signals, {"cluster_share": score})

    def known(self, pool: Pool, signals: Signals) -> tuple[np.ndarray, np.ndarray]:
        """Return the samples that have finite activations, and their rows in the column."""
        signal = signals.of(LayerFeatures)
        places = signal.places(pool, np.arange(len(pool)))
        finite = signal.read(pool, np.arange(len(pool)), "finite")
        rows = np.flatnonzero(finite == 1)
        return rows, places[rows]

    def kernel(self, features: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Compute the kernel of the samples of a cluster."""
        return rules.gaussian_kernel(np.asarray(features[places], dtype=np.float32))

    def pick(
        self, features: np.ndarray, places: np.ndarray, free: np.ndarray, n: int
    ) -> np.ndarray:
        """Pick n free samples of a cluster."""
        return rules.closest_subset(self.kernel(features, places), free, int(n))
