"""`select --data.features`: rows of tables of features, without images, model or run folder."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from presel_lightning.cli.probe import read_features, read_labels
from presel_lightning.console import console
from presel_lightning.data.sizes import count_of
from presel_lightning.errors import UserError
from presel_lightning.filters.uid_files import writing_uids
from presel_lightning.filters.uids import order_of, parse_uids
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
        features: `.npy` (N, D), or the folder of `score --features`; with that, `selection/uids.npy`
            is a subset file for `reshard` and `ShardDataModule`.
        tasks: task of each row; see `read_labels`.
        excluded: `.npy` of row numbers, or of (N,) bool: rows that are never selected.
        budget: rows to select, a fraction or a count.
        selector: name of a selector that needs features alone.
        seed: seed of every random number.
        out: folder that is written to.

    Raises:
        UserError: a file cannot be read, or an option does not fit the features.
    """
    uids, table = read_table(Path(features))
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
        lines.writerow(["row", "task", *([] if uids is None else ["uid"])])
        lines.writerows(
            [row, "" if names is None else names[row], *([] if uids is None else [uids[row]])]
            for row in rows.tolist()
        )
    if uids is not None:
        chosen, _ = parse_uids(pa.array(uids).take(pa.array(rows)))
        with writing_uids(folder / "uids.npy") as append:
            append(chosen[order_of(chosen)])
    console.print(
        f"{len(rows)} of {len(table)} rows selected by {selector}: {folder / 'rows.npy'}, rows.csv",
        soft_wrap=True,
    )


def read_table(path: Path) -> tuple[list[str] | None, np.ndarray]:
    """Features (N, D), and the uid of each row where they are those of shards.

    Rows of shards come in the order of the tables; images that could not be used are left out, and
    so is a uid that came before.

    Raises:
        UserError: there are no features.
    """
    tables = [] if (path / "signals").is_dir() else sorted(path.glob("**/*.parquet"))
    if not tables:
        return None, read_features(path)[0]
    found = [t for file in tables if "features" in (t := pq.read_table(file)).column_names]
    if not found:
        raise UserError(f"--data.features {path}: no column `features` there")
    whole = pa.concat_tables(each.select(["uid", "features"]) for each in found)
    whole = whole.filter(whole["features"].is_valid()).combine_chunks()
    first = np.sort(np.unique(whole["uid"].to_numpy(), return_index=True)[1])
    whole = whole.take(first).combine_chunks()
    width = whole.schema.field("features").type.list_size
    vectors = whole["features"].combine_chunks().flatten().to_numpy()
    return whole["uid"].to_pylist(), vectors.reshape(-1, width)


def _rows(path: Path) -> np.ndarray:
    try:
        found: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"--data.excluded {path}: no rows there ({error}); give .npy") from error
    return found
