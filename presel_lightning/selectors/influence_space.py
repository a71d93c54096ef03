"""InfluenceSpace: prune clusters that harm the validation loss, weigh up those that lower it."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal, get_args

import numpy as np
import torch

from presel_lightning.data.pool import Pool
from presel_lightning.errors import UserError
from presel_lightning.functional import cluster_influence as rules
from presel_lightning.functional import influence
from presel_lightning.functional.allocation import allocate
from presel_lightning.functional.kmeans import kmeans
from presel_lightning.records import Selection
from presel_lightning.run.ranges import Count, NonNegative, Positive
from presel_lightning.selectors.by_score import scored_first, select_in_order, with_facts
from presel_lightning.selectors.embedding import Embedding, read_embedding, signal_of
from presel_lightning.selectors.gradients import GradientSelector, Loss, Read, read_gradients
from presel_lightning.signals import ClipSimilarity, Gradients, Signals

Tail = Literal["next", "mean"]
Thresholds = Literal["relative", "absolute"]
Allocation = Literal["spread", "entropic", "best_first"]
Weights = Literal["scaled", "knapsack", "none"]
Inside = Literal["utility", "random"]
OPTIONS = {
    "embedding": Embedding,
    "tail": Tail,
    "thresholds": Thresholds,
    "allocation": Allocation,
    "weights": Weights,
    "inside": Inside,
}
HARMFUL, NEUTRAL, BENEFICIAL = -1, 0, 1
KINDS = {HARMFUL: "harmful", NEUTRAL: "neutral", BENEFICIAL: "beneficial"}
UNDECIDED = (
    "none of {} clusters is harmful or beneficial beyond its error, so none is pruned and all weights "
    "are 1; give more validation samples (validation, data.reference), or lower selector.init_args.z"
)
SAMPLES_PER_CLUSTER = 50
"""The published 100 clusters of 5,000 samples."""


class InfluenceSpace(GradientSelector):
    r"""Cluster images with their texts, and select by the influence of each cluster.

    .. math:: U_k = + v^T \hat{H}^{-1} \bar{g}_k

    with v the mean gradient of the validation set (`validation`, by default the reference split),
    :math:`\bar{g}_k` that of the cluster's members, and the damped empirical Fisher operator by its
    largest eigenpairs. A cluster is harmful where :math:`U_k + z s_k < -t_h`, beneficial where
    :math:`U_k - z s_k > t_b`, with its standard error s. Harmful clusters give nothing as long as the
    others meet the budget; samples of beneficial ones weigh more in training.

    Needs the instructions of the whole pool. Budget: over the clusters; tasks are ignored. Held in
    memory: the embedding, 4 (D + D) bytes a sample.

    Differences to the published code: docs/influence.md has the table. The first: its sign prunes the
    clusters that help.

    Args:
        embedding: `joint`, image and text of the image-text encoder; or `image`, features of the image
            encoder.
        clusters: number of clusters; null for a 50th of the samples.
        members: members of a cluster whose gradients are averaged, drawn by seed; null for all.
        rank: eigenpairs of the Fisher operator.
        fisher_samples: samples that the operator is made of, drawn by seed.
        damping: of its inverse, in units of its mean eigenvalue.
        tail: eigenvalue of all other directions: the `next` one, or their `mean`.
        thresholds: `relative` to the median size of a cluster's utility, or `absolute`.
        harmful: t_h; 0.001 was published, absolute.
        beneficial: t_b; 0.01 was published, absolute.
        z: standard errors that a cluster has to be beyond; 0 was published.
        allocation: `entropic`, a cluster's share by its size times exp(U / T); `spread`, by the size alone;
            `best_first`, whole clusters in turn, which is the linear program of the paper.
        temperature: T, in units of the median size of U: the higher, the nearer to `spread`.
        weights: in training: `scaled`, 1 to `most` in a beneficial cluster by its utility, anchored at 0;
            `knapsack`, the linear program of the paper over what is selected; `none`.
        most: largest weight.
        inside: samples of a cluster that have the highest `utility` of their own, or at `random` as
            published.
        normalize: whether each sample's gradient has length 1, so that no few long ones make up a mean;
            gradients of wrong answers are long. False as published.
        loss: of whose gradients: that of the `answer`, or the `contrastive` loss of an image-text pair;
            null for `contrastive` where `two_tower` is set, else `answer`.

    Raises:
        UserError: an option is unknown, or `most` is below 1 with weights `scaled`.

    Source: InfluenceSpace, an unpublished workshop report (2025); sign and operator are those of Koh and
    Liang, ICML 2017, and of the Gauss-Newton approximation.
    """

    needs: ClassVar[tuple[str, ...]] = (ClipSimilarity.name, Gradients.name)

    def __init__(
        self,
        embedding: Embedding = "joint",
        clusters: Count | None = None,
        members: Count | None = None,
        rank: Count = 10,
        fisher_samples: Count = 4096,
        damping: Positive = influence.DAMPING,
        tail: Tail = "next",
        thresholds: Thresholds = "relative",
        harmful: NonNegative = 0.1,
        beneficial: NonNegative = 1.0,
        z: NonNegative = 2.0,
        allocation: Allocation = "entropic",
        temperature: Positive = 1.0,
        weights: Weights = "scaled",
        most: Positive = 5.0,
        inside: Inside = "utility",
        normalize: bool = True,
        loss: Loss | None = None,
    ) -> None:
        self.embedding, self.clusters, self.members = embedding, clusters, members
        self.rank, self.fisher_samples, self.damping, self.tail = (
            rank,
            fisher_samples,
            damping,
            tail,
        )
        self.thresholds, self.harmful, self.beneficial, self.z = thresholds, harmful, beneficial, z
        self.allocation, self.temperature = allocation, temperature
        self.weights, self.most = weights, most
        self.inside, self.normalize = inside, normalize
        for key, kind in OPTIONS.items():
            if (given := getattr(self, key)) not in (known := get_args(kind)):
                raise UserError(
                    f"selector.init_args.{key} {given!r} is unknown; choose from {', '.join(known)}"
                )
        if weights == "scaled" and most < 1:
            raise UserError(
                f"selector.init_args.most is {most:g}; with weights `scaled` a beneficial cluster has "
                "weights from 1 to `most`: set it to 1 or more, or weights to none"
            )
        super().__init__(loss)

    def read_signals(self) -> None:
        """Add the signal of the embedding."""
        super().read_signals()
        self.needs = tuple(dict.fromkeys((signal_of(self.embedding), *self.needs)))  # type: ignore[misc]

    def select(self, pool: Pool, signals: Signals, budget: int, *, seed: int) -> Selection:
        """Cluster, estimate the utility of each cluster, and select under the budget."""
        read = read_gradients(pool, signals, self.kind)
        if self.normalize:
            read = read.normalized()
        operator = self.operator(read, seed)
        utility = read.scores(pool, self.utilities(read, operator))
        cluster, n_clusters = self.cluster(pool, signals, np.isfinite(utility), seed)
        rows = np.flatnonzero((cluster >= 0) & ~pool.reference)
        found = rules.cluster_utilities(
            utility[rows], cluster[rows], n_clusters, self.members, seed
        )
        kind = rules.categories(
            found, self.harmful, self.beneficial, self.z, absolute=self.thresholds == "absolute"
        )
        score = np.full(len(pool), np.nan)
        score[cluster >= 0] = found.mean[cluster[cluster >= 0]]
        quota = self.quota(found, kind, budget)
        order = self.order(rows, cluster, utility, found, kind, seed)
        within = places_inside(cluster[order]) < quota[cluster[order]]
        rest = scored_first(pool, score)
        order = np.concatenate([order[within], order[~within], rest[~np.isin(rest, order)]])
        selection = select_in_order(pool, order[:budget], order, score, "", cluster)
        for row in pool.rows(selection.uids):
            if cluster[row] >= 0:
                name = KINDS[int(kind[cluster[row]])]
                selection.reason[row] = f"in a {name} cluster"
        selection = replace(
            selection, weights=self.weigh(pool.rows(selection.uids), cluster, found, kind, budget)
        )
        selection = with_facts(selection, pool, signals, {"cluster_utility": score, "utility": utility})  # fmt: skip
        counts = {name: int((kind[found.size > 0] == each).sum()) for each, name in KINDS.items()}
        method = {
            "eigenvalues": operator.values.tolist(),
            "tail": operator.tail,
            "damping": operator.damping,
            "sign": "utility: higher = keep; the influence of the papers is minus that",
            "clusters": [
                {
                    "cluster": int(number),
                    "size": int(found.size[number]),
                    "utility": float(found.mean[number]),
                    "error": float(found.error[number]) if found.size[number] > 1 else None,
                    "kind": KINDS[int(kind[number])],
                }
                for number in np.flatnonzero(found.size)
            ],
        }
        meta = {**selection.meta, "clusters": counts, "method": method}
        if n_clusters and not kind.any():
            meta["warnings"] = [*meta.get("warnings", []), UNDECIDED.format(n_clusters)]
        return replace(selection, meta=meta)

    def operator(self, read: Read, seed: int) -> influence.Fisher:
        """Approximate the Fisher operator of some samples."""
        n = len(read.rows)
        rng = np.random.default_rng([seed, 6])
        drawn = np.sort(rng.permutation(n)[: self.fisher_samples])
        sample = read.gradients._replace(places=read.gradients.places[drawn])
        width = read.gradients.rows.shape[1]
        rows = np.concatenate([np.empty((0, width)), *sample.blocks()])
        return influence.fisher(rows, self.rank, tail=self.tail, damping=self.damping)

    def utilities(self, read: Read, operator: influence.Fisher) -> np.ndarray:
        """Compute the utility of each sample that has a gradient, (n,)."""
        direction = operator.solve(influence.mean_gradient(read.validation))
        return influence.utilities(read.gradients, direction)

    def cluster(
        self, pool: Pool, signals: Signals, known: np.ndarray, seed: int
    ) -> tuple[np.ndarray, int]:
        """Cluster the samples that have a gradient, (N,), -1 for others; and count the clusters."""
        rows = np.flatnonzero(known)
        table = read_embedding(pool, signals, rows, self.embedding)
        finite = np.isfinite(table).all(axis=1)
        rows, table = rows[finite], table[finite]
        cluster = np.full(len(pool), -1, dtype=np.int64)
        if not len(rows):
            return cluster, 0
        wanted = min(self.clusters or max(1, len(rows) // SAMPLES_PER_CLUSTER), len(rows))
        cluster[rows] = kmeans(torch.from_numpy(table), wanted, seed=seed).labels.numpy()
        return cluster, int(cluster.max()) + 1

    def quota(self, found: rules.ClusterUtility, kind: np.ndarray, budget: int) -> np.ndarray:
        """Share the budget among the clusters, (K,): the kept ones first, then the least harmful."""
        kept = np.where(kind == HARMFUL, 0, found.size)
        if self.allocation == "best_first":
            quota = in_turn(found.mean, kept, budget)
        else:
            shares = kept.astype(np.float64)
            if self.allocation == "entropic" and kept.any():
                seen = found.mean[kept > 0]
                unit = self.temperature * np.median(np.abs(seen)) or 1.0
                shares[kept > 0] *= np.exp(np.clip((seen - seen.max()) / unit, -500, 0))
            quota = allocate(torch.from_numpy(shares), torch.from_numpy(kept), budget).numpy()
        rest = in_turn(found.mean, found.size - kept, budget - int(quota.sum()))
        together: np.ndarray = quota + rest
        return together

    def order(
        self,
        rows: np.ndarray,
        cluster: np.ndarray,
        utility: np.ndarray,
        found: rules.ClusterUtility,
        kind: np.ndarray,
        seed: int,
    ) -> np.ndarray:
        """Order the available rows: harmful clusters last, by cluster utility, then inside of it."""
        own = cluster[rows]
        inside = (
            -utility[rows]
            if self.inside == "utility"
            else np.random.default_rng([seed, 7]).permutation(len(rows))
        )
        ordered: np.ndarray = rows[
            np.lexsort((inside, own, -found.mean[own], kind[own] == HARMFUL))
        ]
        return ordered

    def weigh(
        self,
        rows: np.ndarray,
        cluster: np.ndarray,
        found: rules.ClusterUtility,
        kind: np.ndarray,
        budget: int,
    ) -> np.ndarray:
        """Compute the training weight of each selected row, (n,)."""
        own, weights = cluster[rows], np.ones(len(rows))
        known = own >= 0
        if self.weights == "none" or not known.any():
            return weights
        if self.weights == "knapsack":
            taken = np.bincount(own[known], minlength=len(found.size))
            solved = rules.knapsack(found.mean, taken, budget, self.most)
            weights[known] = solved[own[known]]
            return weights if weights.any() else np.ones(len(rows))
        scaled = 1 + (self.most - 1) * rules.scaled_from_zero(found.mean)
        weights[known] = np.where(kind == BENEFICIAL, scaled, 1.0)[own[known]]
        return weights


def places_inside(labels: np.ndarray) -> np.ndarray:
    """Number the members of each cluster from 0, in their order, (n,).

    >>> places_inside(np.array([3, 1, 3, 3, 1]))
    array([0, 0, 1, 2, 1])
    """
    order = np.argsort(labels, kind="stable")
    _, first, counts = np.unique(labels[order], return_index=True, return_counts=True)
    places = np.empty(len(labels), dtype=np.int64)
    places[order] = np.arange(len(labels)) - np.repeat(first, counts)
    return places


def in_turn(utility: np.ndarray, size: np.ndarray, budget: int) -> np.ndarray:
    """Give each cluster as much as it holds, in descending order of utility, (K,)."""
    quota, left = np.zeros(len(size), dtype=np.int64), budget
    for number in np.argsort(-utility, kind="stable"):
        quota[number] = min(int(size[number]), left)
        left -= quota[number]
    return quota
