"""An append-only text file, synced line by line."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from presel_lightning.run.files import make_folder, sync
from presel_lightning.run.storage import storing


class LineFile:
    """An append-only text file whose lines are synced one by one.

    An incomplete last line, left by a killed process, is truncated on opening. Several processes may
    append to it, such as a run and the review of its folder.

    Args:
        path: the file; created if missing.
        heading: first line of a new file.

    Attributes:
        lines: lines at opening time, without the heading.
    """

    def __init__(self, path: Path, heading: str | None = None) -> None:
        make_folder(path.parent)
        self.path = path
        self._lock = threading.Lock()
        with storing(path):
            self._handle = path.open("a+b", buffering=0)
        with self._alone():
            whole = self._without_a_cut_line()
        # not splitlines, which also splits at other characters that answers may hold
        self.lines = whole.decode("utf-8").split("\n")[:-1]
        if heading is not None and not self.lines:
            self.append(heading)
        self.lines = self.lines[heading is not None :]
        sync(path.parent)

    def append(self, line: str) -> None:
        """Append a line and sync it to disk, or leave the file as it was. Thread-safe.

        Raises:
            StorageError: there is no room for it.
        """
        with self._alone():
            end = self._handle.seek(0, os.SEEK_END)
            rest = line.encode("utf-8") + b"\n"
            try:
                while rest:
                    rest = rest[self._handle.write(rest) or 0 :]
                os.fsync(self._handle.fileno())
            except OSError:
                self._handle.truncate(end)
                raise

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep others from the file: what one of them has written in part is no line that was cut."""
        with self._lock, storing(self.path):
            fcntl.flock(self._handle, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._handle, fcntl.LOCK_UN)

    def _without_a_cut_line(self) -> bytes:
        """Return the whole lines, and truncate the file behind them."""
        self._handle.seek(0)
        content = self._handle.readall()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            self._handle.truncate(len(whole))
        return whole

    def close(self) -> None:
        """Close the file, once a line that is being appended is stored."""
        with self._lock:
            self._handle.close()
