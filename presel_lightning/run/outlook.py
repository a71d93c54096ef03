"""How long a run still takes, by the rates that it has shown so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from presel_lightning.console import roughly


@dataclass(frozen=True)
class Ahead:
    """Work that a run has ahead of it.

    Attributes:
        stage: the stage that does it.
        kind: work of one kind goes at one rate.
        amount: how much, in the unit of its kind: steps of a fit, samples of a pass.
    """

    stage: str
    kind: str
    amount: float


@dataclass(frozen=True)
class Seen:
    """Work of one kind that was done, and the seconds it took."""

    amount: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Seen) -> Seen:
        """Return both together."""
        return Seen(self.amount + other.amount, self.seconds + other.seconds)


@dataclass(frozen=True)
class Left:
    """Time left.

    Attributes:
        seconds: of the work whose rate is known.
        unknown: kinds of work that no rate is known of, in their order; they are not counted.
    """

    seconds: float
    unknown: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the words for a line on the screen."""
        without = f", {', '.join(self.unknown)} not counted yet" if self.unknown else ""
        return f"about {roughly(self.seconds)} left{without}"


def time_left(ahead: Sequence[Ahead], seen: Mapping[str, Seen], workers: int = 1) -> Left | None:
    r"""Estimate the time that work takes by the mean rate of each kind so far.

    .. math:: t = \frac{1}{W} \sum_i a_i \, \frac{\sum_k s_k}{\sum_k a_k}

    where k runs over the work of the same kind that was done, in :math:`s_k` seconds.

    Args:
        ahead: the work.
        seen: work that was done, by kind.
        workers: W, how many pieces of work are done at a time.

    Returns:
        The estimate in seconds; None where no rate is known of any of it.
    """
    known = {kind: done.seconds / done.amount for kind, done in seen.items() if done.amount > 0}
    counted = [work for work in ahead if work.amount > 0 and work.kind in known]
    if not counted:
        return None
    missing = [work.kind for work in ahead if work.amount > 0 and work.kind not in known]
    seconds = sum(work.amount * known[work.kind] for work in counted) / workers
    return Left(seconds, tuple(dict.fromkeys(missing)))
