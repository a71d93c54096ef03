"""What was found out about image files, kept in SQLite as long as a file stays as it is."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from presel_lightning.run.files import make_folder
from presel_lightning.run.storage import storing

Found = tuple[str, str]
"""Problem and detail of an image."""

Fact = tuple[int, int, int]
"""Size in bytes, and times of modification and of change in ns, of a file.

A file that takes the place of another of equal size, its time of modification set back, has another
time of change: no program can set that one. (On Windows it is the time of creation instead.)
"""

ABSENT: Fact = (-1, -1, -1)


class Scan(NamedTuple):
    """Result of checking an image."""

    fault: Found | None
    """Why it cannot be used."""
    digest: bytes = b""
    """16 bytes that name its content, where it can be used and a name was asked for."""
    shown: str = ""
    """What a plain conversion would not show of it; see `pixels.kinds_of`."""
    look: int = 0
    """Perceptual hash, where it was decoded and a name was asked for."""
    thumbnail: bytes = b""
    """What the perceptual hash is made of, until it is made."""


def fact_of(path: Path) -> Fact:
    """Size and times of a file; `ABSENT` where there is none."""
    try:
        facts = path.stat()
    except OSError:
        return ABSENT
    return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


class Memory:
    """What was found out about files; one that changed since is not known.

    Args:
        connection: of the database.
        how: settings of the look; what was found under others is not known either.
    """

    def __init__(self, connection: sqlite3.Connection, how: str) -> None:
        self.connection = connection
        self.how = how
        columns = "path BLOB PRIMARY KEY, size INT, mtime_ns INT, ctime_ns INT, how TEXT"
        found = "problem TEXT, detail TEXT, digest BLOB, look BLOB"
        connection.execute("DROP TABLE IF EXISTS looks")  # of an earlier version
        connection.execute(f"CREATE TABLE IF NOT EXISTS scans ({columns}, {found})")

    def recall(self, facts: Mapping[Path, Fact]) -> dict[Path, Scan]:
        """What is known of these files."""
        known: dict[Path, Scan] = {}
        same = "path=? AND size=? AND mtime_ns=? AND ctime_ns=? AND how=?"
        query = f"SELECT problem, detail, digest, look FROM scans WHERE {same}"
        for path, fact in facts.items():
            row = self.connection.execute(query, (os.fsencode(path), *fact, self.how)).fetchone()
            if row is not None:
                problem, detail, digest, look = row
                known[path] = (
                    Scan(None, digest, detail, int.from_bytes(look, "big"))
                    if problem is None
                    else Scan((problem, detail))
                )
        return known

    def keep(self, facts: Mapping[Path, Fact], found: Mapping[Path, Scan]) -> None:
        """Remember some files, all or none; a missing one may come any time and is not kept."""
        rows = [
            (
                os.fsencode(path),
                *facts[path],
                self.how,
                *(scan.fault or (None, scan.shown)),
                scan.digest,
                scan.look.to_bytes(8, "big"),
            )
            for path, scan in found.items()
            if facts[path] != ABSENT
        ]
        with self.connection:
            marks = ", ".join("?" * 9)
            self.connection.executemany(f"REPLACE INTO scans VALUES ({marks})", rows)


@contextmanager
def open_memory(cache: Path | None, how: str) -> Iterator[Memory]:
    """Open the database, or one that is gone afterwards."""
    if cache is not None:
        make_folder(cache.parent)
    with (
        storing(cache or Path("images.sqlite")),
        closing(sqlite3.connect(cache or ":memory:")) as connection,
    ):
        yield Memory(connection, how)
