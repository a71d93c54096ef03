"""What was found out about image files, kept in SQLite as long as a file stays as it is."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

Found = tuple[str, str]
"""Problem and detail of an image."""

Fact = tuple[int, int]
"""Size in bytes and mtime in ns of a file."""

ABSENT: Fact = (-1, -1)


def fact_of(path: Path) -> Fact:
    """Size and mtime of a file; `ABSENT` where there is none."""
    try:
        facts = path.stat()
    except OSError:
        return ABSENT
    return facts.st_size, facts.st_mtime_ns


class Memory:
    """What was found out about files; one that changed since is not known.

    Args:
        connection: of the database.
        how: settings of the look; what was found under others is not known either.
    """

    def __init__(self, connection: sqlite3.Connection, how: str) -> None:
        self.connection = connection
        self.how = how
        columns = "path BLOB PRIMARY KEY, size INT, mtime_ns INT, how TEXT, problem TEXT"
        connection.execute(f"CREATE TABLE IF NOT EXISTS images ({columns}, detail TEXT)")

    def recall(self, facts: Mapping[Path, Fact]) -> dict[Path, Found | None]:
        """What is known of these files."""
        known: dict[Path, Found | None] = {}
        query = "SELECT problem, detail FROM images WHERE path=? AND size=? AND mtime_ns=?"
        for path, fact in facts.items():
            key = (os.fsencode(path), *fact, self.how)
            row = self.connection.execute(f"{query} AND how=?", key).fetchone()
            if row is not None:
                known[path] = None if row[0] is None else row
        return known

    def keep(self, facts: Mapping[Path, Fact], found: Mapping[Path, Found | None]) -> None:
        """Remember some files, all or none; a missing one may come any time and is not kept."""
        rows = [
            (os.fsencode(path), *facts[path], self.how, *(fault or (None, None)))
            for path, fault in found.items()
            if facts[path] != ABSENT
        ]
        with self.connection:
            self.connection.executemany("REPLACE INTO images VALUES (?, ?, ?, ?, ?, ?)", rows)


@contextmanager
def open_memory(cache: Path | None, how: str) -> Iterator[Memory]:
    """Open the database, or one that is gone afterwards."""
    if cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(cache or ":memory:")) as connection:
        yield Memory(connection, how)
