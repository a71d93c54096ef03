"""One table of the images that the cells of a comparison ask for."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from presel_lightning.recipe.requests import COLUMNS, REQUESTS, Row, filled_rows
from presel_lightning.run.files import replacing

TABLE = REQUESTS[1]
"""Its name, that of the table in a cell's `selection/`."""


def write_tables(cells: Iterable[Path]) -> list[Path]:
    """Write `requests.csv` into each comparison that cells belong to, an image once.

    What is filled in there stays, and is read by later cells, too; what was filled in in a cell's own
    table is taken over.

    Args:
        cells: folders of cells and reference splits that wait for instructions.

    Returns:
        The tables.

    Raises:
        UserError: a table that lies there is none any more.
    """
    of: dict[Path, list[Path]] = {}
    for cell in cells:
        of.setdefault(cell.parent.parent, []).append(cell)
    for root, own in of.items():
        _write(root / TABLE, [cell / "selection" / TABLE for cell in sorted(own)])
    return [root / TABLE for root in of]


def _write(table: Path, asked: list[Path]) -> None:
    filled, rows = filled_rows(table), dict[str, Row]()
    for path in filter(Path.is_file, asked):
        for uid, given in filled_rows(path).items():
            filled.setdefault(uid, given)
        with path.open(encoding="utf-8-sig", newline="") as handle:
            for row in csv.DictReader(handle):
                rows.setdefault(row["uid"], row)
    missing = [row for uid, row in rows.items() if uid not in filled]
    every = [*missing, *(row for given in filled.values() for row in given)]
    with replacing(table) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in sorted(every, key=lambda r: (r.get("task") or "", r.get("image") or "")):
            writer.writerow([row.get(name) or "" for name in COLUMNS])
