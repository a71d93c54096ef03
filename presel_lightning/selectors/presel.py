"""PreSel (CVPR 2025): task budgets from the IRS, typical images of each cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from presel_lightning.data.pool import Pool
from presel_lightning.functional import allocate, official_task_budgets
from presel_lightning.records import Selection
from presel_lightning.selectors.base import Selector, selection_of
from presel_lightning.selectors.in_task import Allocation
from presel_lightning.selectors.weighting import TaskFacts, Weighting, weighting_of
from presel_lightning.selectors.within import Within, select_in_tasks, within_of
from presel_lightning.signals import Features, PairedLoss, Signals


class PreSel(Selector):
    """Allocate the budget to tasks by IRS, and select the most typical images of each cluster.

    Tasks: s(T) = mean IRS of the task's reference samples, w = softmax(-s / temperature), and a
    task gets the share w of the budget. Images: k-means inside each task, cluster quotas in
    proportion to size, and in each cluster the highest Neighbor Centrality. Each of these rules
    can be replaced alone; the defaults are the paper's.

    Args:
        weighting: how tasks share the budget: a class with its options, or the short name of one
            with its defaults: `irs` (the paper), `size`, `sqrt_size`, `uniform`, `headroom`,
            `headroom_error`, `learning_curve`, `visual_necessity`; see docs/budgets.md.
        within: how images are selected inside a task, likewise: `centrality` (the paper),
            `coverage`, `random`; see docs/selection.md.
        allocation: `exact` selects exactly the budget; `floor` rounds down as Eq. 6 is printed;
            `official` rounds and corrects as the authors' scripts do.

    Raises:
        UserError: the weighting or rule is unknown.

    Source: Safaei et al., "Filter Images First, Generate Instructions Later", Eq. 1-7.
    """

    needs: ClassVar[tuple[str, ...]] = (Features.name, PairedLoss.name)
    moved: ClassVar[Mapping[str, str]] = {
        "temperature": "weighting.init_args.temperature",
        "shrink": "weighting.init_args.shrink",
        "floor": "weighting.init_args.floor",
        "priors": "weighting.init_args.priors",
        "cap_flat": "weighting.init_args.cap_flat",
        "near_duplicates": "within.init_args.near_duplicates",
        "images_per_cluster": "within.init_args.images_per_cluster",
        "neighbors": "within.init_args.neighbors",
        "backend": "within.init_args.backend",
        "device": "within.init_args.device",
    }

    # class names, so that jsonargparse accepts a single option of them
    def __init__(
        self,
        weighting: Weighting | str = "IRS",
        within: Within | str = "NeighborCentrality",
        allocation: Allocation = "exact",
    ) -> None:
        self.weighting = weighting_of(weighting)
        self.within = within_of(within)
        self.allocation = allocation
        self.needs = tuple(dict.fromkeys([*self.within.needs, *self.weighting.needs]))  # type: ignore[misc]

    def select(self, pool: Pool, signals: Signals, budget: int, *, seed: int) -> Selection:
        """Compute the task weights, and select inside each task."""
        facts = TaskFacts(pool, signals)
        shares = self.weighting.shares(facts, budget)  # (M,)
        found = select_in_tasks(
            pool,
            signals,
            self.task_budgets(pool, shares, budget),
            self.within,
            seed=seed,
            allocation=self.allocation,
        )
        rows = found.rows
        if self.allocation == "official":
            rows = np.concatenate([rows, shortfall(pool, rows, budget, seed)])
        selection = selection_of(
            pool,
            rows,
            found.score,
            found.rank,
            reason=self.within.reason,
            otherwise=self.within.otherwise,
            cluster=found.cluster,
            task_weights=dict(zip(pool.tasks, shares.tolist(), strict=True)),
        )
        warnings = self.weighting.warnings(facts, shares)
        return replace(selection, meta={"warnings": warnings}) if warnings else selection

    def task_budgets(self, pool: Pool, shares: Tensor, budget: int) -> list[int] | list[float]:
        """Compute the number of samples of each task, in the order of `pool.tasks`."""
        sizes = [int((~pool.reference[pool.task_rows(task)]).sum()) for task in pool.tasks]
        if self.allocation == "floor":
            return [share * budget for share in shares.tolist()]
        if self.allocation == "official":
            counts: list[int] = official_task_budgets(shares, budget, torch.tensor(sizes)).tolist()
            return counts
        exact: list[int] = allocate(shares, torch.tensor(sizes), budget).tolist()
        return exact


def shortfall(pool: Pool, rows: np.ndarray, budget: int, seed: int) -> np.ndarray:
    """Sample at random the rows that are missing to the budget, as the authors' scripts do."""
    rest = np.setdiff1d(np.flatnonzero(~pool.reference), rows)
    missing = max(0, budget - len(rows))
    return np.random.default_rng(seed).permutation(rest)[:missing]
