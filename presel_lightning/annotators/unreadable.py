"""Record of replies that could not be read, and the stop when too many follow each other."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from presel_lightning.annotators.base import Request
from presel_lightning.run.line_file import LineFile

FILE = "unreadable.jsonl"


class Unreadable:
    """`unreadable.jsonl`: every reply that could not be read, as it came; it was paid for.

    Args:
        folder: `OUT/annotations`.
        most: consecutive unreadable replies before a stop: to requests of two or more images as
            long as no reply of this start could be read, of as many images afterward.

    Attributes:
        stop: reason of the stop; empty where there is none.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self.stop = ""
        self._most = most
        self._able = False  # whether the service has given a readable reply
        self._count, self._uids = 0, set[str]()
        self._lock = threading.Lock()
        self._file = LineFile(folder / FILE)

    def add(self, request: Request, attempt: int, reason: str, reply: str) -> bool:
        """Store a reply durably; return whether requests have to stop. Thread-safe.

        Args:
            request: the request.
            attempt: number of the attempt for this image.
            reason: why the reply cannot be read, on one line.
            reply: the body of the reply, without secrets.
        """
        record = {"uid": request.uid, "image": request.image, "attempt": attempt}
        self._file.append(json.dumps({**record, "reason": reason, "reply": reply}))
        with self._lock:
            self._count += 1
            self._uids.add(request.uid)
            # a few difficult images are no fault of the service
            images = self._most if self._able else min(2, self._most)
            if self._count >= self._most and len(self._uids) >= images and not self.stop:
                self.stop = f"{self._count} replies in a row could not be read, the last: {reason}"
        return bool(self.stop)

    def readable(self) -> None:
        """Restart the count: a reply could be read."""
        with self._lock:
            self._able = True
            self._count = 0
            self._uids.clear()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
