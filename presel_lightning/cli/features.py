"""`select --data.features`: rows of a table of features, without images, model or run folder."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from presel_lightning.cli.probe import read_features, read_labels
from presel_lightning.console import console
from presel_lightning.data.sizes import count_of
from presel_lightning.errors import UserError
from presel_lightning.run.files import replacing
from presel_lightning.selectors.arrays import select


def select_rows(
    features: str,
    tasks: str | None,
    excluded: str | None,
    budget: float,
    selector: str,
    seed: int,
    out: str,
) -> None:
    """Select rows of a table of features; write `selection/rows.npy` and `selection/rows.csv`.

    Args:
        features: `.npy` (N, D).
        tasks: task of each row; see `read_labels`.
        excluded: `.npy` of row numbers, or of (N,) bool: rows that are never selected.
        budget: rows to select, a fraction or a count.
        selector: name of a selector that needs features alone.
        seed: seed of every random number.
        out: folder that is written to.

    Raises:
        UserError: a file cannot be read, or an option does not fit the features.
    """
    table, _ = read_features(Path(features))
    names = None if tasks is None else read_labels(Path(tasks))
    without = None if excluded is None else _rows(Path(excluded))
    if table.ndim == 2 and len(table):
        count_of(budget, len(table), "data.budget")
    rows = select(table, names, budget=budget, method=selector, seed=seed, excluded=without)
    folder = Path(out) / "selection"
    with replacing(folder / "rows.npy") as part, part.open("wb") as file:
        np.save(file, rows)
    with (
        replacing(folder / "rows.csv") as part,
        part.open("w", encoding="utf-8", newline="") as text,
    ):
        lines = csv.writer(text)
        lines.writerow(["row", "task"])
        lines.writerows([row, "" if names is None else names[row]] for row in rows.tolist())
    console.print(
        f"{len(rows)} of {len(table)} rows selected by {selector}: {folder / 'rows.npy'}, rows.csv",
        soft_wrap=True,
    )


def _rows(path: Path) -> np.ndarray:
    try:
        found: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"--data.excluded {path}: no rows there ({error}); give .npy") from error
    return found
