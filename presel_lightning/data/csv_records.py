"""Tables of images in CSV or TSV, as a stream of records."""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from presel_lightning.data.entries import Entry, Fault, Record
from presel_lightning.data.fields import conversation
from presel_lightning.errors import UserError

SUFFIXES = (".csv", ".tsv")
TURN = ("question", "answer")
PATH = re.compile(r"\S+\.\w{2,5}")
"""What an image is called, and no other text of a table is."""
FORM = (
    "expected a first line with the column `image`, and with `id`, the task, `question` and "
    "`answer` where there are any; UTF-8"
)


@dataclass(slots=True)
class _Row:
    """Cells of a row by column.

    Attributes:
        line: that it begins in.
        cells: without those of the turn, where it cannot be read.
        has_turns: whether the table has columns for turns.
        reason: why it cannot be read.
    """

    line: int
    cells: Record
    has_turns: bool
    reason: str = ""


def is_csv(path: Path) -> bool:
    """Whether a file's name says that it is such a table."""
    return path.suffix.lower() in SUFFIXES


def csv_entries(path: Path, task_key: str = "task") -> Iterator[Entry]:
    """Stream the records of a table; rows in sequence of one image, id and task are one record.

    Each of its rows is a turn of the conversation; without a question and an answer it is none.
    Columns other than these two become fields of the record, as its first row has them. A row that
    cannot be read makes its record faulty. Each record is numbered by the line that it begins in.

    Args:
        path: a .tsv file, or a .csv file with commas, semicolons or tabs.
        task_key: column of the task.

    Raises:
        UserError: the file cannot be read, or its first line does not name the columns.
    """

    def name(row: _Row) -> tuple[object, ...]:
        known = not row.reason or row.cells.get("image")
        return tuple(map(row.cells.get, ("image", "id", task_key))) if known else (row.line,)

    with _open(path) as handle:
        for _, rows in groupby(_Table(handle, path), key=name):
            yield from _join(rows)


def _join(rows: Iterator[_Row]) -> Iterator[Entry]:
    """One record of the rows of a conversation; each row its own where there are no turns."""
    first = next(rows)
    if not first.has_turns:
        for row in chain((first,), rows):
            yield _entry(row.cells, row, row.reason)
        return
    turns = [first, *rows]
    record = {name: value for name, value in first.cells.items() if name not in TURN}
    if reason := next((row.reason for row in turns if row.reason), ""):
        yield _entry(record, first, reason)
        return
    pairs = [(row.cells["question"], row.cells["answer"]) for row in turns]
    yield _entry({**record, "conversations": conversation(pairs)}, first)


def _entry(record: Record, row: _Row, reason: str = "") -> Entry:
    return Entry(record, row.line, Fault("bad_row", reason) if reason else None, "line")


def check_task(path: Path, task_key: str) -> None:
    """Look whether a table has the column of the task.

    Raises:
        UserError: it does not, or it is no such table at all.
    """
    with _open(path) as handle:
        columns = _header(csv.reader(handle, delimiter=_delimiter(path)), path)
    if task_key not in columns:
        raise UserError(
            f"{path} has no column {task_key!r} that names the task; its columns are "
            f"{', '.join(columns)[:200]}: set data.task_key, data.task_files or data.task_rules"
        )


class _Lines:
    """The lines of a file, which can be put back."""

    def __init__(self, handle: Iterator[str]) -> None:
        self._handle = handle
        self._back: deque[str] = deque()
        self.number = 0
        self.taken: list[str] = []
        """What was read since it was emptied."""

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._back.popleft() if self._back else next(self._handle)
        self.number += 1
        self.taken.append(line)
        return line

    def put_back(self, lines: Sequence[str]) -> None:
        self._back.extendleft(reversed(lines))
        self.number -= len(lines)


class _Table:
    """The rows of a table; one that cannot be read, with the reason."""

    def __init__(self, handle: Iterator[str], path: Path) -> None:
        self._lines = _Lines(handle)
        self._mark = _delimiter(path)
        self._reader = csv.reader(self._lines, delimiter=self._mark, strict=True)
        self._columns = _header(self._reader, path)

    def __iter__(self) -> Iterator[_Row]:
        has_turns = "answer" in self._columns
        while True:
            self._lines.taken.clear()
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield self._misfit(self._cells(self._lines.taken[0]), str(error), has_turns)
                continue
            if len(cells) == len(self._columns):
                line = self._lines.number - len(self._lines.taken) + 1
                yield _Row(line, self._named(cells), has_turns)
            elif cells:
                reason = f"{len(cells)} cells for {len(self._columns)} columns"
                yield self._misfit(cells, reason, has_turns)

    def _misfit(self, cells: Sequence[str], reason: str, has_turns: bool) -> _Row:
        """A row that cannot be read, without the rows behind that an open quote has taken in."""
        first, *rest = self._lines.taken
        line = self._lines.number - len(rest)
        for number, other in enumerate(rest):
            if self._begins_row(other):
                self._lines.put_back(rest[number:])
                cells = self._cells(first)
                break
        named = {name: cell for name, cell in self._named(cells).items() if name not in TURN}
        return _Row(line, named, has_turns, reason)

    def _named(self, cells: Sequence[str]) -> Record:
        return {name: cell.strip() for name, cell in zip(self._columns, cells, strict=False)}

    def _begins_row(self, line: str) -> bool:
        cells = self._cells(line)
        place = self._columns.index("image")
        named = len(cells) > place and PATH.fullmatch(cells[place].strip())
        return len(cells) == len(self._columns) or bool(named)

    def _cells(self, line: str) -> list[str]:
        """Cells of a line for itself, whatever its quotes."""
        try:
            return next(csv.reader([line], delimiter=self._mark), [])
        except csv.Error:
            return []


def _open(path: Path) -> Any:  # noqa: ANN401 - a text file
    """A byte that is no UTF-8 becomes a lone surrogate: a problem of its record alone."""
    try:
        return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; check data.annotations") from error


def _delimiter(path: Path) -> str:
    """A tab, or what the first line has most of: spreadsheets of some countries write `;`."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    with _open(path) as handle:
        return max(",;\t", key=handle.readline().count)


def _header(reader: Any, path: Path) -> list[str]:  # noqa: ANN401 - a CSV reader has no public type
    try:
        columns = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise UserError(f"{path}, line 1: {error}; {FORM}") from error
    shown = ascii(columns)[:200]
    if "image" not in columns:
        raise UserError(f"{path} has no column `image`; its first line is {shown}; {FORM}")
    if len(set(columns)) < len(columns):
        raise UserError(f"{path} has columns of one name; its first line is {shown}; {FORM}")
    if len(set(TURN) & set(columns)) == 1:
        raise UserError(
            f"{path} has one of the columns `question` and `answer` without the other; its first "
            f"line is {shown}; {FORM}"
        )
    return columns
