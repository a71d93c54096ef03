"""Ledger of the requests to a paid service, their cost, and its cap."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from presel_lightning.annotators.base import AtMost
from presel_lightning.annotators.journal import Journal
from presel_lightning.errors import UserError
from presel_lightning.run.line_file import LineFile

ANSWERED, MALFORMED, REFUSED = "answered", "malformed", "refused"


@dataclass(frozen=True, slots=True)
class Row:
    """One request that was sent.

    Attributes:
        attempt: number of the attempt for this sample in this start, from 1.
        prompt_tokens: as reported by the service; None where it is not reported.
        completion_tokens: likewise.
        cost: None without a price, or without a completion.
        seconds: latency of the reply.
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
        """Return the row as CSV; unknown values are empty."""
        return ",".join("" if value is None else str(value) for value in astuple(self))


class CostLedger:
    """`ledger.csv`: one line for every request sent, over all starts.

    Args:
        path: the file.
        cap: spending cap over all starts; None for no limit.

    Attributes:
        spent: cost over all starts.
        answered: samples answered over all starts.
        longest: maximum prompt tokens of a request.

    Raises:
        UserError: a line cannot be read.
    """

    def __init__(self, path: Path, cap: float | None = None) -> None:
        self.cap = cap
        self.spent, self.longest = 0.0, 0
        self._bounded = False
        self.answered: set[str] = set()
        self._reserved, self._in_flight = 0.0, 0
        self._changed = threading.Condition()
        heading = ",".join(f.name for f in fields(Row))
        self._file = LineFile(path, heading)
        for number, line in enumerate(self._file.lines, start=2):
            try:
                uid, _, tokens, written, cost, _, status = line.split(",")
                unknown = bool(cost) and not (tokens and written)
                self._count(uid, int(tokens or 0), float(cost or 0.0), status, unknown)
            except ValueError as error:
                raise UserError(f"{path}, line {number}: cannot be read; remove it") from error

    def _count(self, uid: str, prompt_tokens: int, cost: float, status: str, unknown: bool) -> None:
        self.spent += cost
        self._bounded |= unknown
        self.longest = max(self.longest, prompt_tokens)
        if status == ANSWERED:
            self.answered.add(uid)

    def catch_up(self, journal: Journal, annotator: str) -> None:
        """Enter answers that a killed start stored in the journal but not in the ledger."""
        for uid, record in journal.records.items():
            if record.get("annotator") == annotator and uid not in self.answered:
                usage = record.get("usage") or {}
                tokens = usage.get("prompt_tokens"), usage.get("completion_tokens")
                self.enter(Row(uid, 1, *tokens, record.get("cost"), None, ANSWERED))

    def enter(self, row: Row) -> None:
        """Record a request."""
        with self._changed:
            self._file.append(row.line())
            unknown = row.cost is not None and None in (row.prompt_tokens, row.completion_tokens)
            self._count(row.uid, row.prompt_tokens or 0, row.cost or 0.0, row.status, unknown)

    @property
    def paid(self) -> float:
        """Cost over all starts; `AtMost` where the usage of a request is not known."""
        return AtMost(self.spent) if self._bounded else self.spent

    def reserve(self, most_of: Callable[[int], float]) -> float | None:
        """Reserve the cost of a request; wait for requests in flight if they may leave enough.

        Args:
            most_of: upper bound on its cost as a function of `longest`, which replies update.

        Returns:
            The reserved amount; None if the request could exceed the cap.
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
        """Release a reservation; the actual cost has been entered."""
        with self._changed:
            self._in_flight -= 1
            self._reserved = self._reserved - most if self._in_flight else 0.0
            self._changed.notify_all()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
