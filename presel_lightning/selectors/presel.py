"""PreSel (CVPR 2025): task budgets from the IRS, typical images of each cluster."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from presel_lightning.data.pool import Pool
from presel_lightning.errors import UserError
from presel_lightning.functional import KMeans, allocate, kmeans, official_task_budgets
from presel_lightning.functional.faiss_kmeans import faiss_kmeans, require_faiss
from presel_lightning.records import Selection
from presel_lightning.selectors.base import Selector, selection_of
from presel_lightning.selectors.clustered import choose_in_tasks
from presel_lightning.selectors.in_cluster import Within, in_cluster
from presel_lightning.selectors.in_task import Allocation
from presel_lightning.selectors.weighting import TaskFacts, adjust, weighting_of
from presel_lightning.selectors.weighting.doubts import doubts_of_irs
from presel_lightning.selectors.weighting.irs import IRS
from presel_lightning.signals import Features, HeldOutLoss, PairedLoss, Signals

REASONS: dict[Within, tuple[str, str]] = {
    "centrality": ("typical of its cluster", "less typical of its cluster"),
    "coverage": ("far from the others of its cluster", "near to others of its cluster"),
    "random": ("drawn from its cluster", "not drawn from its cluster"),
}
"""Why an image of a cluster was taken, and why not."""
Backend = Literal["torch", "faiss"]
Device = Literal["auto", "cpu", "cuda"]


class PreSel(Selector):
    """Spend the budget where questions matter, on the images most like their neighbours.

    Tasks: s(T) = mean IRS of the task's reference samples, w = softmax(-s / temperature), and a
    task gets w of the budget. Images: k-means inside each task, the budget spread over clusters by
    their size, and in each cluster the highest Neighbor Centrality. Each of these choices can be
    replaced alone; the defaults are the paper's.

    Args:
        weighting: how tasks share the budget: `irs` (the paper), `size`, `sqrt_size`, `uniform`,
            `headroom`, `headroom_error`, `learning_curve`; see docs/budgets.md.
        allocation: `exact` meets the budget to the sample; `floor` rounds down as Eq. 6 is
            printed; `official` rounds and mends as the authors' scripts do.
        temperature: of the softmax over tasks; 1/sqrt(number of tasks) where not given. `irs` only.
        shrink: draw what was measured of each task towards the mean of all, by its standard error.
        floor: no task gets less than this part of the mean weight, such as 0.15.
        priors: factor of a task's weight, {task: factor}; 1 where a task is not named.
        cap_flat: a task whose held-out loss training does not lower gets no more than its share of
            the pool. It makes the held-out losses.
        within: what is taken of a cluster: `centrality` (the paper), `coverage`, `random`.
        near_duplicates: cosine similarity above which an image counts as a repetition of another
            of its cluster and is taken last, such as 0.98.
        images_per_cluster: a task of n images gets max(1, n // this) clusters.
        neighbors: k of the Neighbor Centrality.
        backend: of the clustering; `faiss` wants the extra of that name and runs on the CPU.
        device: where the `torch` backend clusters: `cpu`, `cuda`, or `auto` for a GPU if there is
            one. Each kind of device gives the same choice on every machine; the two may differ.

    Raises:
        UserError: no such weighting; faiss or a GPU is asked for, and not there.

    Source: Safaei et al., "Filter Images First, Generate Instructions Later", Eq. 1-7.
    """

    needs: ClassVar[tuple[str, ...]] = (Features.name, PairedLoss.name)

    def __init__(
        self,
        weighting: str = "irs",
        allocation: Allocation = "exact",
        temperature: float | None = None,
        shrink: bool = False,
        floor: float = 0.0,
        priors: dict[str, float] | None = None,
        cap_flat: bool = False,
        within: Within = "centrality",
        near_duplicates: float | None = None,
        images_per_cluster: int = 100,
        neighbors: int = 5,
        backend: Backend = "torch",
        device: Device = "cpu",
    ) -> None:
        rule = weighting_of(weighting)
        self.weighting = IRS(shrink, temperature) if rule is IRS else rule(shrink)
        self.adjust = partial(adjust, floor=floor, priors=priors, cap_flat=cap_flat)
        # the softmax is exact as it is
        self.as_it_is = rule is IRS and not (floor or priors or cap_flat)
        capping = (HeldOutLoss.name,) if cap_flat and HeldOutLoss.name not in rule.needs else ()
        self.needs = (Features.name, *rule.needs, *capping)  # type: ignore[misc]
        self.allocation = allocation
        self.within: Within = within
        self.near_duplicates = near_duplicates
        self.images_per_cluster = images_per_cluster
        self.neighbors = neighbors
        self.backend = backend
        self.device = device_of(device)
        if backend == "faiss":
            require_faiss()

    def fingerprint(self) -> object:
        """The device that `auto` found."""
        return self.device

    def select(self, pool: Pool, signals: Signals, budget: int, *, seed: int) -> Selection:
        """Weigh the tasks, cluster each, and take its most typical images."""
        facts = TaskFacts(pool, signals)
        weights = self.weighting.weights(facts, budget)  # (M,)
        if not self.as_it_is:
            weights = self.adjust(weights, facts)
        picked = choose_in_tasks(
            pool,
            signals,
            self.task_budgets(pool, weights, budget),
            images_per_cluster=self.images_per_cluster,
            order=in_cluster(
                self.within,
                neighbors=self.neighbors,
                near_duplicates=self.near_duplicates,
                seed=seed,
            ),
            allocation=self.allocation,
            seed=seed,
            cluster=faiss_kmeans if self.backend == "faiss" else self._kmeans,
        )
        rows = picked.rows
        if self.allocation == "official":
            rows = np.concatenate([rows, shortfall(pool, rows, budget, seed)])
        chosen = selection_of(
            pool,
            rows,
            picked.score,
            picked.rank,
            reason=REASONS[self.within][0],
            otherwise=REASONS[self.within][1],
            cluster=picked.cluster,
            task_weights=dict(zip(pool.tasks, weights.tolist(), strict=True)),
        )
        doubts = doubts_of_irs(facts, weights) if isinstance(self.weighting, IRS) else []
        return replace(chosen, meta={"warnings": doubts}) if doubts else chosen

    def _kmeans(self, features: Tensor, n_clusters: int, *, seed: int) -> KMeans:
        return kmeans(features, n_clusters, seed=seed, device=self.device)

    def task_budgets(self, pool: Pool, weights: Tensor, budget: int) -> list[int] | list[float]:
        """Samples that each task gets, in the order of `pool.tasks`."""
        sizes = [int((~pool.reference[pool.task_rows(task)]).sum()) for task in pool.tasks]
        if self.allocation == "floor":
            return [weight * budget for weight in weights.tolist()]
        if self.allocation == "official":
            counts: list[int] = official_task_budgets(weights, budget, torch.tensor(sizes)).tolist()
            return counts
        exact: list[int] = allocate(weights, torch.tensor(sizes), budget).tolist()
        return exact


def device_of(name: Device) -> str:
    """What a name of a device stands for here.

    Raises:
        UserError: there is no GPU.
    """
    found = torch.cuda.is_available()
    if name == "cuda" and not found:
        raise UserError(
            "selector.init_args.device is cuda, and there is none; set it to cpu or auto"
        )
    return name if name != "auto" else "cuda" if found else "cpu"


def shortfall(pool: Pool, chosen: np.ndarray, budget: int, seed: int) -> np.ndarray:
    """What the authors' scripts draw at random where their rounding left the budget unmet."""
    rest = np.setdiff1d(np.flatnonzero(~pool.reference), chosen)
    missing = max(0, budget - len(chosen))
    return np.random.default_rng(seed).permutation(rest)[:missing]
