"""Samples that are left out of the pool on request, by uid."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from presel_lightning.errors import UserError

EXCLUDED = "excluded"
"""Kind of problem of a record that is left out on request."""
UID = re.compile("[0-9a-f]{32}")


def read_excluded(path: Path) -> dict[str, str]:
    """Read uids and the reasons to leave them out.

    Args:
        path: CSV with a column `uid`, such as the `leakage.csv` of `check --against`, or a text with
            a uid a line.

    Returns:
        Reason by uid: `kind`, `benchmark` and `item` of a CSV that has them.

    Raises:
        UserError: there is no such file, or it holds something else than uids.
    """
    if not path.is_file():
        raise UserError(f"data.exclude {path}: no such file; give a CSV with a column `uid`")
    with path.open(encoding="utf-8", newline="") as handle:
        rows = list(csv.reader(handle))
    columns = rows[0] if rows else []
    if "uid" in columns:
        found = [dict(zip(columns, row, strict=False)) for row in rows[1:]]
    else:
        found = [{"uid": row[0] if row else ""} for row in rows]
    for number, row in enumerate(found, start=1 + ("uid" in columns)):
        if not UID.fullmatch(row.get("uid", "")):
            raise UserError(
                f"data.exclude {path}, line {number}: {row.get('uid', '')!r:.60} is no uid; give 32 "
                "hexadecimal letters a line, or a CSV with a column `uid`"
            )
    return {row["uid"]: reason(row) for row in found}


def reason(row: dict[str, str]) -> str:
    """Reason of a line, as far as it gives one."""
    parts = (row.get(name, "") for name in ("kind", "benchmark", "item"))
    return " ".join(part for part in parts if part)
