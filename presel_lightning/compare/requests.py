"""One table of the images that the cells of a comparison ask for."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from presel_lightning.recipe.requests import COLUMNS, REQUESTS, Row, filled_rows, read_rows
from presel_lightning.run.files import replacing

TABLE = REQUESTS[1]
"""Its name, that of the table in a cell's `selection/`."""


def merge_requests(out: Path, cells: Iterable[Path]) -> None:
    """Write `requests.csv` into the folder of a comparison, an image once.

    What is filled in there stays, and is read by later cells, too; what was filled in in a cell's own
    table is taken over.

    Args:
        out: folder of the comparison.
        cells: folders of cells and reference splits that wait for instructions.

    Raises:
        UserError: a table that lies there is none any more.
    """
    table = out / TABLE
    filled, rows = filled_rows(table), dict[str, Row]()
    for cell in sorted(cells):
        asked = cell / "selection" / TABLE
        for uid, given in filled_rows(asked).items():
            filled.setdefault(uid, given)
        for row in read_rows(asked):
            rows.setdefault(row["uid"], row)
    missing = [row for uid, row in rows.items() if uid not in filled]
    every = [*missing, *(row for given in filled.values() for row in given)]
    with replacing(table) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in sorted(every, key=lambda r: (r.get("task") or "", r.get("image") or "")):
            writer.writerow([row.get(name) or "" for name in COLUMNS])
