"""When the next request may be sent."""

from __future__ import annotations

import random
import threading
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST = 60.0
"""Seconds that a back-off grows to."""


class Pace:
    """Spaces requests of many threads evenly, and halts all of them when the service asks for it.

    Args:
        per_minute: requests that may be sent in a minute; None for no limit.
    """

    def __init__(self, per_minute: float | None = None) -> None:
        self._gap = 60.0 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self.reason = ""

    @property
    def stopped(self) -> bool:
        """Whether no request may be sent any more."""
        return self._stopped.is_set()

    def stop(self, reason: str) -> None:
        """Send no more requests; the first reason counts."""
        with self._lock:
            if not self.stopped:
                self.reason = reason
                self._stopped.set()

    def wait_turn(self) -> bool:
        """Wait until a request may be sent; False if none may any more."""
        while True:
            with self._lock:
                now = time.monotonic()
                wait = self._next - now
                if wait <= 0:
                    self._next = now + self._gap
                    return not self.stopped
            if not self.sleep(wait):
                return False

    def hold(self, seconds: float) -> None:
        """Let nobody send for some seconds."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)

    def sleep(self, seconds: float) -> bool:
        """Wait; False, and at once, if no more requests may be sent."""
        return not self._stopped.wait(max(0.0, seconds))


def backoff(attempt: int, first: float) -> float:
    """Seconds before the next attempt: doubled each time, with jitter, at most a minute.

    Args:
        attempt: that has failed, from 1.
        first: seconds after the first one.
    """
    return min(LONGEST, first * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)


def retry_after(value: str | None) -> float:
    """Seconds that a `Retry-After` header asks for, as a number or a date; 0 where it does not."""
    if not value:
        return 0.0
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())
