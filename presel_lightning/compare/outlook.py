"""How many cells of a comparison are left, and how long they take."""

from __future__ import annotations

from collections.abc import Sequence

from presel_lightning.compare.cells import Cell
from presel_lightning.data.sizes import count_of
from presel_lightning.run.outlook import Ahead, Seen, time_left

SPLITS, CELLS = "reference splits", "cells"


class Outlook:
    """The jobs of a comparison that are left, and what those that ended have taken.

    Args:
        ahead: the jobs, `stage` by their names.
        workers: number of parallel jobs.
    """

    def __init__(self, ahead: Sequence[Ahead], workers: int) -> None:
        self.ahead, self.workers = list(ahead), workers
        self.seen: dict[str, Seen] = {}

    def end(self, name: str, seconds: float, *, failed: bool = False) -> str:
        """Count a job that ended; return how many of its kind are left, and the time left.

        Args:
            name: of the job.
            seconds: that it took.
            failed: whether its time says nothing of the others.
        """
        (own,) = (work for work in self.ahead if work.stage == name)
        self.ahead.remove(own)
        if not failed:
            self.seen[own.kind] = self.seen.get(own.kind, Seen()) + Seen(own.amount, seconds)
        to_go = sum(work.kind == own.kind for work in self.ahead)
        left = time_left(self.ahead, self.seen, min(self.workers, max(1, to_go)))
        return f"{to_go} to go" + ("" if left is None else f", {left}")


def amount_of(cell: Cell, n_pool: int, *, equal_steps: bool) -> float:
    """Return the work of a cell: the samples that it trains on; where all take equal steps, one.

    Args:
        cell: the cell.
        n_pool: size of the pool.
        equal_steps: whether every cell is trained for as many steps.
    """
    return 1.0 if equal_steps else float(count_of(cell.budget, n_pool, "budgets"))
