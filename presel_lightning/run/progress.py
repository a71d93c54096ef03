"""Which stage of a run is being done, and how long the run still takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace

from presel_lightning.run.outlook import Ahead, Left, Seen, time_left

EVERY = 60.0
"""Seconds between two lines of a long stage in a log."""


class Progress:
    """The stages of a run, the work ahead, and the rates of what was done in this start.

    Args:
        report: prints a line.
        clock: a time in seconds.
    """

    def __init__(
        self,
        report: Callable[[str], None] = lambda line: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.report, self.clock = report, clock
        self.stages: list[str] = []
        self.ahead: list[Ahead] = []
        self.seen: dict[str, Seen] = {}
        self.stage = ""
        self._kind: str | None = None  # of the work that is being measured
        self._done = self._since = self._printed = 0.0

    def plan(self, stages: Sequence[str], ahead: Sequence[Ahead]) -> None:
        """Set the stages of the run in their order, and the work of those that are still to come."""
        self.stages, self.ahead = list(stages), list(ahead)

    def start(self, stage: str) -> None:
        """Begin a stage; it is reported where it has work that takes time."""
        self.stage = stage
        if any(work.stage == stage for work in self.ahead):
            self._say()

    def measure(
        self, kind: str | None = None, *, total: float | None = None, there: float = 0.0
    ) -> None:
        """Begin to measure the stage's work of one kind.

        Args:
            kind: by default that of the stage's first work.
            total: its amount, where it is known better than before.
            there: how much of it an earlier start has done.
        """
        self._settle()
        own = [work for work in self.ahead if work.stage == self.stage]
        self._kind = kind or (own[0].kind if own else self.stage)
        for number, work in enumerate(self.ahead):
            if work.stage == self.stage and work.kind == self._kind:
                amount = (work.amount if total is None else total) - there
                self.ahead[number] = replace(work, amount=max(0.0, amount))
        self._done, self._since = 0.0, self.clock()

    def advance(self, amount: float) -> None:
        """Count work that was done; a long stage is reported now and then."""
        self._done += amount
        if self.clock() - self._printed >= EVERY:
            self._say()

    def saw(self, kind: str, amount: float, seconds: float) -> None:
        """Count work that was measured elsewhere, and take it off the stage's work ahead."""
        self._settle()
        self.seen[kind] = self.seen.get(kind, Seen()) + Seen(amount, seconds)
        self.ahead = [w for w in self.ahead if (w.stage, w.kind) != (self.stage, kind)]

    def end(self, stage: str) -> None:
        """Leave a stage that is done, or was there."""
        if stage == self.stage:
            self._settle()
        self.ahead = [work for work in self.ahead if work.stage != stage]

    def left(self) -> Left | None:
        """Estimate the time left by what was seen so far, the work under way included."""
        return time_left(*self._as_of_now())

    def __str__(self) -> str:
        """Return which stage of how many is being done, and the time left where it is known."""
        number = (
            f"stage {self.stages.index(self.stage) + 1} of {len(self.stages)}, "
            if (self.stage in self.stages)
            else ""
        )
        left = self.left()
        return f"{number}{self.stage}" + ("" if left is None else f": {left}")

    def _settle(self) -> None:
        """Keep what was measured, and take it off the work ahead: a stage may have several passes."""
        self.ahead, self.seen = self._as_of_now()
        self._kind, self._done = None, 0.0

    def _as_of_now(self) -> tuple[list[Ahead], dict[str, Seen]]:
        """Return the work ahead and what was seen, the work under way included."""
        ahead, seen = list(self.ahead), dict(self.seen)
        if self._kind is not None and self._done > 0:
            own = Seen(self._done, self.clock() - self._since)
            seen[self._kind] = seen.get(self._kind, Seen()) + own
            ahead = [
                replace(work, amount=max(0.0, work.amount - self._done))
                if (work.stage, work.kind) == (self.stage, self._kind)
                else work
                for work in ahead
            ]
        return ahead, seen

    def _say(self) -> None:
        self._printed = self.clock()
        if self.stage in self.stages:
            self.report(str(self))


_CURRENT: ContextVar[Progress | None] = ContextVar("progress", default=None)


def current() -> Progress:
    """Return the progress of the stage that is being done; one that nobody sees where there is none."""
    return _CURRENT.get() or Progress()


@contextmanager
def showing(progress: Progress) -> Iterator[None]:
    """Have a stage's work count on this progress."""
    token = _CURRENT.set(progress)
    try:
        yield
    finally:
        _CURRENT.reset(token)
