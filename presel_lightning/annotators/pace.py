"""Rate limit, back-off and stop of the requests."""

from __future__ import annotations

import random
import threading
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST = 60.0
"""Maximum back-off in seconds."""


class Pace:
    """Rate limiter of many threads, which can pause or stop all of them.

    Args:
        per_minute: requests per minute; None for no limit.
    """

    def __init__(self, per_minute: float | None = None) -> None:
        self._gap = 60.0 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self.reason = ""

    @property
    def stopped(self) -> bool:
        """Whether requests have been stopped."""
        return self._stopped.is_set()

    def stop(self, reason: str) -> None:
        """Stop all requests; the first reason counts."""
        with self._lock:
            if not self.stopped:
                self.reason = reason
                self._stopped.set()

    def wait_turn(self) -> bool:
        """Wait for the next slot; return False if requests have been stopped."""
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
        """Pause all requests for some seconds."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)

    def sleep(self, seconds: float) -> bool:
        """Wait; return False at once if requests have been stopped."""
        return not self._stopped.wait(max(0.0, seconds))


def backoff(attempt: int, first: float) -> float:
    """Compute the seconds before the next attempt: exponential with jitter, at most a minute.

    Args:
        attempt: number of the failed attempt, from 1.
        first: seconds after the first one.
    """
    return min(LONGEST, first * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)


def retry_after(value: str | None) -> float:
    """Parse a `Retry-After` header, a number or a date, to seconds; 0 where it is missing."""
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
