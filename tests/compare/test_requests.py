"""The table of what all cells of a comparison ask for."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from presel_lightning.compare.command import list_requests
from presel_lightning.compare.jobs import Job
from presel_lightning.compare.requests import merge_requests
from presel_lightning.errors import UserError
from presel_lightning.recipe.requests import COLUMNS

Row = tuple[str, ...]


def write(table: Path, *rows: Row, delimiter: str = ",") -> None:
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.open("w", newline="") as handle:
        csv.writer(handle, delimiter=delimiter).writerows([COLUMNS, *rows])


def row(image: str, question: str = "", answer: str = "", task: str = "a") -> Row:
    return task, image, f"/{image}", question, answer, f"uid of {image}"


def rows(table: Path) -> list[Row]:
    with table.open(newline="") as handle:
        heading, *found = csv.reader(handle)
    assert tuple(heading) == COLUMNS
    return [tuple(each) for each in found]


def test_table_keeps_what_is_filled_in_and_takes_over_that_of_cells(tmp_path: Path) -> None:
    """A cell's table as a spreadsheet of another locale writes it, and one that has none."""
    cells = [tmp_path / "cells" / name for name in ("x", "y", "z")]
    turns = row("2", "What?", "Two"), row("2", "And?", "2")
    write(cells[0] / "selection" / "requests.csv", row("1"), row("3"), *turns, delimiter=";")
    write(cells[1] / "selection" / "requests.csv", row("1"), row("2"), row("4", task="0"))
    table = tmp_path / "requests.csv"
    merge_requests(tmp_path, cells)
    first = [row("4", task="0"), row("1"), *turns, row("3")]
    assert rows(table) == first
    filled = row("1", "Which?", "One")
    write(table, *(filled if each == row("1") else each for each in first))
    merge_requests(tmp_path, cells[1:])
    assert rows(table) == [row("4", task="0"), filled, *turns]  # no cell asks for 3 any more
    table.write_text("nothing\n")
    with pytest.raises(UserError, match=r"requests\.csv: no column answer, question, uid"):
        merge_requests(tmp_path, cells)


def test_table_lists_cells_that_wait_also_where_another_has_failed(tmp_path: Path) -> None:
    failed, waiting = (Job(name, [], tmp_path / "cells" / name / "log.txt") for name in "xy")
    write(tmp_path / "cells" / "y" / "selection" / "requests.csv", row("1"))
    list_requests(tmp_path, [(failed, 1)])
    assert not (tmp_path / "requests.csv").exists()
    list_requests(tmp_path, [(failed, 1), (waiting, 3)])
    assert rows(tmp_path / "requests.csv") == [row("1")]
