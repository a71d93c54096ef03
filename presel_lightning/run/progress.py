"""Which stage of a run is running, and how long the run still takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace

from presel_lightning.run.time_left import DoneWork, PlannedWork, TimeLeft, time_left

LOG_INTERVAL = 60.0
"""Seconds between two progress lines of a long stage."""


class Progress:
    """The stages of a run, the work that is planned, and the work that this start has done.

    Args:
        report: prints a line.
        clock: returns a time in seconds.
    """

    def __init__(
        self,
        report: Callable[[str], None] = lambda line: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.report, self.clock = report, clock
        self.stages: list[str] = []
        self.planned: list[PlannedWork] = []
        self.done: dict[str, DoneWork] = {}
        self.stage = ""
        self._kind: str | None = None  # of the work that is being measured
        self._measured, self._since = DoneWork(), 0.0  # up to the last `advance`
        self._printed = 0.0

    def plan(self, stages: Sequence[str], planned: Sequence[PlannedWork]) -> None:
        """Set the stages of the run in their order, and their work."""
        self.stages, self.planned = list(stages), list(planned)

    def start(self, stage: str) -> None:
        """Begin a stage, and print a line where it has planned work."""
        self.stage = stage
        if any(work.stage == stage for work in self.planned):
            self._print()

    def measure(
        self, kind: str | None = None, *, total: float | None = None, already_done: float = 0.0
    ) -> None:
        """Begin to measure the work of one kind in this stage.

        Args:
            kind: by default that of the first planned work of the stage.
            total: its amount, in the place of the planned one.
            already_done: how much of it an earlier start has done.
        """
        self._settle()
        own = [work for work in self.planned if work.stage == self.stage]
        self._kind = kind or (own[0].kind if own else self.stage)
        for number, work in enumerate(self.planned):
            if work.stage == self.stage and work.kind == self._kind:
                amount = (work.amount if total is None else total) - already_done
                self.planned[number] = replace(work, amount=max(0.0, amount))
        self._since = self.clock()

    def advance(self, amount: float) -> None:
        """Count work that was done, and print a line every `LOG_INTERVAL` seconds."""
        now = self.clock()
        self._measured = DoneWork(self._measured.amount + amount, now - self._since)
        if now - self._printed >= LOG_INTERVAL:
            self._print()

    def record(self, kind: str, amount: float, seconds: float) -> None:
        """Count work that was measured elsewhere, and take it off the planned work of the stage."""
        self._settle()
        self.done[kind] = self.done.get(kind, DoneWork()) + DoneWork(amount, seconds)
        self.planned = [w for w in self.planned if (w.stage, w.kind) != (self.stage, kind)]

    def end(self, stage: str) -> None:
        """End a stage that is done, or that an earlier start has done."""
        if stage == self.stage:
            self._settle()
        self.planned = [work for work in self.planned if work.stage != stage]

    def left(self) -> TimeLeft | None:
        """Estimate the time left, the work under way included."""
        return time_left(*self._as_of_now())

    def __str__(self) -> str:
        """Format which stage of how many is running, and the time left where it is known."""
        number = ""
        if self.stage in self.stages:
            number = f"stage {self.stages.index(self.stage) + 1} of {len(self.stages)}, "
        left = self.left()
        return f"{number}{self.stage}" + ("" if left is None else f": {left}")

    def _settle(self) -> None:
        """Count what was measured, and take it off the planned work: a stage may have several passes."""
        self.planned, self.done = self._as_of_now()
        self._kind, self._measured = None, DoneWork()

    def _as_of_now(self) -> tuple[list[PlannedWork], dict[str, DoneWork]]:
        """Return the planned and the done work, with what is under way."""
        planned, done = list(self.planned), dict(self.done)
        if self._kind is not None and self._measured.amount > 0:
            done[self._kind] = done.get(self._kind, DoneWork()) + self._measured
            planned = [
                replace(work, amount=max(0.0, work.amount - self._measured.amount))
                if (work.stage, work.kind) == (self.stage, self._kind)
                else work
                for work in planned
            ]
        return planned, done

    def _print(self) -> None:
        self._printed = self.clock()
        if self.stage in self.stages:
            self.report(str(self))


_CURRENT: ContextVar[Progress | None] = ContextVar("progress", default=None)


def current() -> Progress:
    """Return the progress of the running stage; outside of a run, one that prints nothing."""
    return _CURRENT.get() or Progress()


@contextmanager
def measuring(progress: Progress) -> Iterator[None]:
    """Make this the progress that `current` returns."""
    token = _CURRENT.set(progress)
    try:
        yield
    finally:
        _CURRENT.reset(token)
