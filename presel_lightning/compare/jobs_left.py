"""How many cells of a comparison are left, and how long they take."""

from __future__ import annotations

from collections.abc import Sequence

from presel_lightning.compare.cells import Cell
from presel_lightning.data.sizes import count_of
from presel_lightning.run.time_left import DoneWork, PlannedWork, time_left

SPLITS, CELLS = "reference splits", "cells"


class JobsLeft:
    """The jobs of a comparison that are left, and the time that ended ones took.

    Args:
        planned: the jobs; `stage` is the name of a job.
        workers: number of parallel jobs.
    """

    def __init__(self, planned: Sequence[PlannedWork], workers: int) -> None:
        self.planned, self.workers = list(planned), workers
        self.done: dict[str, DoneWork] = {}

    def end(self, name: str, seconds: float, *, failed: bool = False) -> str:
        """Count a job that ended; return how many of its kind are left, and the time left.

        Args:
            name: of the job.
            seconds: that it took.
            failed: whether it failed, so that its time is not counted.
        """
        (own,) = (work for work in self.planned if work.stage == name)
        self.planned.remove(own)
        if not failed:
            self.done[own.kind] = self.done.get(own.kind, DoneWork()) + DoneWork(
                own.amount, seconds
            )
        to_go = sum(work.kind == own.kind for work in self.planned)
        left = time_left(self.planned, self.done, min(self.workers, max(1, to_go)))
        return f"{to_go} to go" + ("" if left is None else f", {left}")


def amount_of(cell: Cell, n_pool: int, *, equal_steps: bool) -> float:
    """Return the work of a cell: the samples that it trains on; where all take equal steps, one.

    Args:
        cell: the cell.
        n_pool: size of the pool.
        equal_steps: whether every cell is trained for as many steps.
    """
    return 1.0 if equal_steps else float(count_of(cell.budget, n_pool, "budgets"))
