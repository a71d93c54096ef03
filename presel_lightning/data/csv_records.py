"""Tables of images in CSV or TSV, as a stream of records."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from presel_lightning.data.fields import conversation, lost
from presel_lightning.errors import UserError

SUFFIXES = (".csv", ".tsv")
TURN = ("question", "answer")
FORM = (
    "expected a first line with the column `image`, and with `id`, the task, `question` and "
    "`answer` where there are any; UTF-8"
)

Row = dict[str, Any]


def is_csv(path: Path) -> bool:
    """Whether a file's name says that it is such a table."""
    return path.suffix.lower() in SUFFIXES


def csv_records(path: Path, task_key: str = "task") -> Iterator[Row]:
    """Stream the records of a table; rows in sequence of one image, id and task are one record.

    Each of its rows is a turn of the conversation; without a question and an answer it is none.
    Columns other than these two become fields of the record, as its first row has them. A row that
    cannot be read becomes a record whose image is missing, under a name that tells the line.

    Args:
        path: a .tsv file, or a .csv file with commas, semicolons or tabs.
        task_key: column of the task.

    Raises:
        UserError: the file cannot be read, or its first line does not name the columns.
    """
    names = ("image", "id", task_key)
    for _, rows in groupby(_rows(path), key=lambda row: tuple(row.get(name) for name in names)):
        yield from _join(rows)


def _join(rows: Iterator[Row]) -> Iterator[Row]:
    """One record of the rows of a conversation; each row its own where there are no turns."""
    first = next(rows)
    if "answer" not in first:
        yield first
        yield from rows
        return
    pairs = [(row["question"], row["answer"]) for row in (first, *rows)]
    record = {name: value for name, value in first.items() if name not in TURN}
    yield {**record, "conversations": conversation(pairs)}


def check_task(path: Path, task_key: str) -> None:
    """Look whether a table has the column of the task.

    Raises:
        UserError: it does not, or it is no such table at all.
    """
    with _open(path) as handle:
        columns = _header(csv.reader(handle, delimiter=_delimiter(path)), path)
    if task_key not in columns:
        raise UserError(
            f"{path} has no column {task_key!r} that tells the task; its columns are "
            f"{', '.join(columns)[:200]}: set data.task_key, data.task_files or data.task_rules"
        )


def _rows(path: Path) -> Iterator[Row]:
    with _open(path) as handle:
        reader = csv.reader(handle, delimiter=_delimiter(path), strict=True)
        columns = _header(reader, path)
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:  # the reader goes on with the next line
                yield {"image": lost("", f"line {reader.line_num}: {error}")}
                continue
            if len(cells) == len(columns):
                yield {name: cell.strip() for name, cell in zip(columns, cells, strict=True)}
            elif cells:
                yield _misfit(columns, cells, reader.line_num)


def _misfit(columns: Sequence[str], cells: Sequence[str], line: int) -> Row:
    row = {name: cell.strip() for name, cell in zip(columns, cells, strict=False)}
    row = {name: cell for name, cell in row.items() if name not in TURN}
    reason = f"line {line}: {len(cells)} cells for {len(columns)} columns"
    return {**row, "image": lost(row.get("image", ""), reason)}


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
