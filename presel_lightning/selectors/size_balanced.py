"""PreSel without task weights: task budgets by size, typical images of each cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from presel_lightning.data.pool import Pool
from presel_lightning.records import Selection
from presel_lightning.selectors.base import Selector, budgets_by_size, selection_of
from presel_lightning.selectors.within import Within, select_in_tasks, within_of
from presel_lightning.signals import Features, Signals


class SizeBalanced(Selector):
    r"""Allocate the budget to tasks by size, and select the most typical images of each cluster.

    .. math:: N_i = \frac{|T_i|}{|D|} \, |D_S|

    in place of PreSel's Eq. 5; clusters, their quotas (Eq. 6) and the Neighbor Centrality (Eq. 7)
    are those of PreSel. The difference to `PreSel` is the effect of the task weights.

    Budget: per task, in proportion to its images.

    Args:
        within: how images are selected inside a task: a class with its options, or the short name
            of one with its defaults: `centrality` (the paper), `coverage`, `random`; see
            docs/selection.md.

    Raises:
        UserError: the rule is unknown.

    Source: Safaei et al., "Filter Images First, Generate Instructions Later", Eq. 6-7; the
    published scripts hold a size-balanced budget that is disabled. Shares are rounded by largest
    remainder, so that the selection is exactly the budget.
    """

    needs: ClassVar[tuple[str, ...]] = (Features.name,)
    moved: ClassVar[Mapping[str, str]] = {
        "images_per_cluster": "within.init_args.images_per_cluster",
        "neighbors": "within.init_args.neighbors",
    }

    # a class name, so that jsonargparse accepts a single option of it
    def __init__(self, within: Within | str = "NeighborCentrality") -> None:
        self.within = within_of(within)
        self.needs = self.within.needs  # type: ignore[misc]

    def select(self, pool: Pool, signals: Signals, budget: int, *, seed: int) -> Selection:
        """Select inside each task."""
        found = select_in_tasks(
            pool, signals, budgets_by_size(pool, budget), self.within, seed=seed
        )
        return selection_of(
            pool,
            found.rows,
            found.score,
            found.rank,
            reason=self.within.reason,
            otherwise=self.within.otherwise,
            cluster=found.cluster,
            task_weights={t: pool.sizes[t] / sum(pool.sizes.values()) for t in pool.tasks},
        )
