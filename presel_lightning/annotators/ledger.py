"""What was sent to a paid service, what it cost, and the cap on it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from presel_lightning.annotators.journal import Journal, LineFile
from presel_lightning.errors import UserError

ANSWERED, MALFORMED, REFUSED = "answered", "malformed", "refused"


@dataclass(frozen=True, slots=True)
class Row:
    """One request that was sent.

    Attributes:
        attempt: which one of this start for this sample, from 1.
        prompt_tokens: as the service counts them; None where it does not say.
        completion_tokens: likewise.
        cost: None where there is no price, or nothing was charged as far as one can tell.
        seconds: until the reply.
        status: `answered`, `malformed`, `refused`, `rate_limited`, `timeout`, `unreachable`, or
            `http_` and a number.
    """

    uid: str
    attempt: int
    prompt_tokens: int | None
    completion_tokens: int | None
    cost: float | None
    seconds: float | None
    status: str

    def line(self) -> str:
        """As CSV; empty where something is not known."""
        return ",".join("" if value is None else str(value) for value in astuple(self))


class CostLedger:
    """`ledger.csv`: a line for every request that was sent, at any start; they add up.

    Args:
        path: the file.
        cap: never spend more than this, over all starts; None for no limit.

    Attributes:
        spent: over all starts.
        answered: samples that have been answered, over all starts.
        longest: most prompt tokens that a request has had.

    Raises:
        UserError: a line cannot be read.
    """

    def __init__(self, path: Path, cap: float | None = None) -> None:
        self.cap = cap
        self.spent, self.longest = 0.0, 0
        self.answered: set[str] = set()
        self._reserved, self._in_flight = 0.0, 0
        self._changed = threading.Condition()
        heading = ",".join(f.name for f in fields(Row))
        self._file = LineFile(path, heading)
        for number, line in enumerate(self._file.lines, start=2):
            try:
                uid, _, tokens, _, cost, _, status = line.split(",")
                self._count(uid, int(tokens or 0), float(cost or 0.0), status)
            except ValueError as error:
                raise UserError(f"{path}, line {number}: cannot be read; take it out") from error

    def _count(self, uid: str, prompt_tokens: int, cost: float, status: str) -> None:
        self.spent += cost
        self.longest = max(self.longest, prompt_tokens)
        if status == ANSWERED:
            self.answered.add(uid)

    def catch_up(self, journal: Journal, annotator: str) -> None:
        """Enter answers that a killed start kept, but had no time to enter here."""
        for uid, record in journal.records.items():
            if record.get("annotator") == annotator and uid not in self.answered:
                usage = record.get("usage") or {}
                tokens = usage.get("prompt_tokens"), usage.get("completion_tokens")
                self.enter(Row(uid, 1, *tokens, record.get("cost"), None, ANSWERED))

    def enter(self, row: Row) -> None:
        """Write a request down."""
        with self._changed:
            self._file.append(row.line())
            self._count(row.uid, row.prompt_tokens or 0, row.cost or 0.0, row.status)

    def reserve(self, most_of: Callable[[int], float]) -> float | None:
        """Set money aside for a request; wait for those under way if they may leave enough.

        Args:
            most_of: what it may cost, by `longest`, which replies tell better while it waits.

        Returns:
            What was set aside; None if it may not be sent, as `spent` might pass the cap.
        """
        with self._changed:
            while True:
                most = most_of(self.longest)
                if self.cap is None or self.spent + self._reserved + most <= self.cap:
                    self._reserved += most
                    self._in_flight += 1
                    return most
                if self._in_flight == 0:
                    return None
                self._changed.wait()

    def release(self, most: float) -> None:
        """End a reservation; what the request did cost has been entered."""
        with self._changed:
            self._in_flight -= 1
            self._reserved = self._reserved - most if self._in_flight else 0.0
            self._changed.notify_all()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
