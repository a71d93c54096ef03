"""How long a run still takes, by the rates that it has had so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from presel_lightning.console import roughly


@dataclass(frozen=True)
class PlannedWork:
    """Work that a run has still to do.

    Attributes:
        stage: the stage that does it.
        kind: work of one kind goes at one rate.
        amount: how much, in the unit of its kind: steps of a fit, samples of a pass.
    """

    stage: str
    kind: str
    amount: float


@dataclass(frozen=True)
class DoneWork:
    """Work of one kind that was done, and the seconds that it took."""

    amount: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: DoneWork) -> DoneWork:
        """Return both together."""
        return DoneWork(self.amount + other.amount, self.seconds + other.seconds)


@dataclass(frozen=True)
class TimeLeft:
    """Estimate of the time left.

    Attributes:
        seconds: of the work whose rate is known.
        unknown: kinds of work without a known rate, in their order; they are not counted.
    """

    seconds: float
    unknown: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Format the estimate for a progress line."""
        without = f" (not counted yet: {', '.join(self.unknown)})" if self.unknown else ""
        return f"about {roughly(self.seconds)} left{without}"


def time_left(
    planned: Sequence[PlannedWork], done: Mapping[str, DoneWork], workers: int = 1
) -> TimeLeft | None:
    r"""Estimate the time that work takes by the mean rate of each kind so far.

    .. math:: t = \frac{1}{W} \sum_i a_i \, \frac{\sum_k s_k}{\sum_k a_k}

    where k runs over the work of the same kind that was done, in :math:`s_k` seconds.

    Args:
        planned: work to do; i runs over it.
        done: work that was done, by kind.
        workers: W, how many pieces of work are done at a time.

    Returns:
        The estimate in seconds; None where no rate is known for any of the work.
    """
    rates = {kind: work.seconds / work.amount for kind, work in done.items() if work.amount > 0}
    planned = [work for work in planned if work.amount > 0]
    counted = [work for work in planned if work.kind in rates]
    if not counted:
        return None
    missing = [work.kind for work in planned if work.kind not in rates]
    seconds = sum(work.amount * rates[work.kind] for work in counted) / workers
    return TimeLeft(seconds, tuple(dict.fromkeys(missing)))
