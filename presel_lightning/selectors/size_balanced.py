"""PreSel without its task weights: every task by its size, typical images of each cluster."""

from __future__ import annotations

from typing import ClassVar

from presel_lightning.data.pool import Pool
from presel_lightning.records import Selection
from presel_lightning.selectors.base import Selector, budgets_by_size, selection_of
from presel_lightning.selectors.clustered import choose_in_tasks
from presel_lightning.selectors.in_cluster import in_cluster
from presel_lightning.signals import Features, Signals


class SizeBalanced(Selector):
    r"""Take the images most like their neighbours, from every task as many as its size asks for.

    .. math:: N_i = \frac{|T_i|}{|D|} \, |D_S|

    in place of PreSel's Eq. 5; clusters, their quotas (Eq. 6) and the Neighbor Centrality (Eq. 7)
    are PreSel's own. What `PreSel` gains over it is what the task weights gain.

    Budget: per task, in proportion to its images.

    Args:
        images_per_cluster: a task of n images gets max(1, n // this) clusters.
        neighbors: k of the Neighbor Centrality.

    Source: Safaei et al., "Filter Images First, Generate Instructions Later", Eq. 6-7; their
    scripts hold a size-balanced budget that is switched off. Shares are rounded by largest
    remainder, so that the budget is met to the sample.
    """

    needs: ClassVar[tuple[str, ...]] = (Features.name,)

    def __init__(self, images_per_cluster: int = 100, neighbors: int = 5) -> None:
        self.images_per_cluster = images_per_cluster
        self.neighbors = neighbors

    def select(self, pool: Pool, signals: Signals, budget: int, *, seed: int) -> Selection:
        """Cluster each task and take its most typical images."""
        picked = choose_in_tasks(
            pool,
            signals,
            budgets_by_size(pool, budget),
            images_per_cluster=self.images_per_cluster,
            order=in_cluster(neighbors=self.neighbors),
            seed=seed,
        )
        return selection_of(
            pool,
            picked.rows,
            picked.score,
            picked.rank,
            reason="typical of its cluster",
            otherwise="less typical of its cluster",
            cluster=picked.cluster,
            task_weights={t: len(pool.task_rows(t)) / len(pool) for t in pool.tasks},
        )
