"""`select --data.features`: rows of tables of features, without images, model or run folder."""

from __future__ import annotations

import csv
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from presel_lightning.cli.probe import read_features, read_labels
from presel_lightning.console import console
from presel_lightning.data.sizes import count_of
from presel_lightning.errors import UserError
from presel_lightning.filters.uid_files import writing_uids
from presel_lightning.filters.uids import order_of, parse_uids
from presel_lightning.run.executors import Executor
from presel_lightning.run.files import make_folder, remove, replacing
from presel_lightning.run.fingerprint import fingerprint
from presel_lightning.run.units import state_of
from presel_lightning.selectors.arrays import select
from presel_lightning.selectors.clustering import cluster


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


def cluster_rows(
    features: str,
    place: Path,
    tasks: str | None,
    rows_per_cluster: int,
    part: int,
    seed: int,
    executor: Executor,
    workers: int,
) -> None:
    """Cluster the rows of a table; see `cli.web.cluster`.

    Raises:
        UserError: a file cannot be read, or does not fit the features.
    """
    if place.suffix != ".npy":
        raise UserError(f"--output {place}: give a name that ends with .npy")
    uids, table = read_table(Path(features))
    names = None if tasks is None else read_labels(Path(tasks))
    if table.ndim != 2 or not len(table) or (names is not None and len(names) != len(table)):
        raise UserError(
            f"--features {features} has shape {table.shape}"
            + ("; give (N, D)" if names is None else f", --tasks {len(names)} rows; give one a row")
        )
    work, source = place.with_name(f"{place.name}.work"), Path(features)
    if uids is not None:
        source = _as_array(source, table, place)
    how = {"rows_per_cluster": rows_per_cluster, "part": part, "seed": seed}
    found = cluster(source, names, work=work, **how, executor=executor, workers=workers)
    if uids is not None:
        with replacing(place.with_suffix(".parquet")) as path:
            pq.write_table(pa.table({"uid": uids, "cluster": found}), path)
        if executor != "slurm":  # other tasks may still read
            remove(source)
    with replacing(place) as path, path.open("wb") as file:
        np.save(file, found)
    console.print(f"{found.max() + 1} clusters of {len(found)} rows: {place}", soft_wrap=True)


def _as_array(folder: Path, table: np.ndarray, place: Path) -> Path:
    """The features of shards as one file, which workers map; another start finds it again."""
    files = fsspec.filesystem("file")
    states = [[str(p), state_of(files, str(p))] for p in sorted(folder.glob("**/*.parquet"))]
    source = place.with_name(f"{place.name}.features-{fingerprint(states)}.npy")
    make_folder(place.parent)
    with FileLock(place.with_name(f".{place.name}.features.lock")):
        if not source.is_file():
            with replacing(source) as path, path.open("wb") as file:
                np.save(file, table)
    return source


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
