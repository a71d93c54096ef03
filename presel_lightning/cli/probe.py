"""`probe`: which selection pays on these images; reads features and labels, prints the table."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from presel_lightning.console import console, track
from presel_lightning.errors import UserError
from presel_lightning.eval.linear_probe import BASELINE, Row, Trial, linear_probe
from presel_lightning.run.files import write_json


def run_probe(
    features: str, labels: str | None, probe_features: str | None, trial: Trial, out: str
) -> list[Row]:
    """Compare selection methods on labeled images by a linear probe.

    Args:
        features: what the methods see; see `read_features`.
        labels: class of each row; see `read_labels`.
        probe_features: what the classifier sees, if it is something else.
        trial: methods, budgets, splits.
        out: folder of `probe.json`.

    Raises:
        UserError: a file cannot be read, or does not fit the others.
    """
    table, own = read_features(Path(features))
    classes = own if labels is None else read_labels(Path(labels))
    if classes is None:
        raise UserError(f"{features} holds no labels; give --labels FILE")
    seen = None if probe_features is None else read_features(Path(probe_features))[0]

    def show(items: Iterable[int], total: int) -> Iterable[int]:
        return track(items, "splits", total)

    rows, full = linear_probe(table, classes, trial, probe_features=seen, track=show)
    path = Path(out) / "probe.json"
    figures = {
        "trial": {f.name: getattr(trial, f.name) for f in fields(trial)},
        "rows": len(table),
        "classes": len(set(classes.tolist())),
        "accuracy_full_pool": full,
        "results": [_without_nan(row) for row in rows],
    }
    write_json(path, figures)
    console.print(table_of(rows, full, trial.splits))
    console.print(f"figures: {path}", soft_wrap=True)
    return rows


def features_of_images(folder: str, out: str, checkpoint: str | None = None) -> str:
    """Make the features of a folder of labeled images, a folder a label; return the run folder.

    Args:
        folder: of the folders.
        out: the run folder is `images` in it.
        checkpoint: vision encoder; None is that of `photos.yaml`.

    Raises:
        UserError: the images cannot be read.
    """
    from presel_lightning.cli.configs import find_configs
    from presel_lightning.console import quiet

    quiet()
    from presel_lightning.cli.training import run

    place = Path(out) / "images"
    words = ["--config", "photos.yaml", "--data.annotations", folder, "--out", str(place)]
    if checkpoint is not None:
        words += ["--stages.features.model.checkpoint", checkpoint]
    # SizeBalanced has no reference split, whose instructions would be asked for
    words += ["--selector", "SizeBalanced", "--signals", "features"]
    arguments, name = find_configs(words)
    run("prepare", arguments, name, lambda _: 1)
    return str(place)


def table_of(rows: list[Row], full: float, splits: int) -> Table:
    """Lay out the results: a method in each row, a budget in each column."""
    budgets = list(dict.fromkeys((row.budget, row.selected) for row in rows))
    table = Table(
        title="accuracy of a linear probe, points above a random sample ± 95 %",
        caption=f"{splits} splits; whole pool (first split): {full:.1f} %",
    )
    table.add_column("method")
    for budget, selected in budgets:
        share = f"{100 * budget:g} %" if isinstance(budget, float) else str(budget)
        table.add_column(f"{share}\n{selected} images", justify="right")
    for name in dict.fromkeys(row.method for row in rows):
        own = {row.budget: row for row in rows if row.method == name}
        table.add_row(name, *(_cell(own[budget]) for budget, _ in budgets))
    return table


def _cell(row: Row) -> str:
    if row.method == BASELINE:
        return f"{row.accuracy:.1f} %"
    if np.isnan(row.half_width):
        return f"{row.difference:+.1f}"
    cell = f"{row.difference:+.1f} ± {row.half_width:.1f}"
    return f"[bold]{cell}[/bold]" if abs(row.difference) > row.half_width else cell


def _without_nan(row: Row) -> dict[str, Any]:
    found = row._asdict()
    found["half_width"] = None if np.isnan(row.half_width) else row.half_width
    return found


def read_features(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Read features, and labels if they lie beside them.

    Args:
        path: `.npy` (N, D); `.npz` with `features` and, if it holds them, `label` or `labels`; or
            the folder of a run: its features, and its tasks as labels.

    Raises:
        UserError: there is no such file, or it holds something else.
    """
    if (path / "signals" / "features").is_dir():
        return _of_run(path)
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        why = "not a file of numbers" if not isinstance(error, OSError) else error.strerror or error
        raise UserError(
            f"{path}: no features there ({why}); give .npy, .npz or a run folder"
        ) from error
    if isinstance(found, np.ndarray):
        return found, None
    if "features" not in found:
        raise UserError(f"{path} holds {', '.join(found)}; one array must be called `features`")
    name = next((name for name in ("label", "labels") if name in found), None)
    return found["features"], None if name is None else found[name]


def _of_run(run: Path) -> tuple[np.ndarray, np.ndarray]:
    import pyarrow.parquet as pq

    folder = run / "signals" / "features"
    table, uids = np.load(folder / "features.npy"), np.load(folder / "uid.npy").astype(str)
    pool = pq.read_table(run / "pool.parquet", columns=["uid", "task"])
    tasks = dict(zip(pool["uid"].to_pylist(), pool["task"].to_pylist(), strict=True))
    return table, np.array([tasks[uid] for uid in uids], dtype=object)


def read_labels(path: Path) -> np.ndarray:
    """Read the class of each row.

    Args:
        path: `.npy` (N,); `.csv` with a column `label` or of one column; or text, a label a line.

    Raises:
        UserError: there is no such file, or it holds something else.
    """
    found: np.ndarray
    try:
        if path.suffix == ".npy":
            found = np.load(path, allow_pickle=False)
        elif path.suffix == ".csv":
            with path.open(encoding="utf-8-sig", newline="") as file:
                found = np.array(_column(list(csv.DictReader(file)), path), dtype=object)
        else:
            found = np.array(path.read_text(encoding="utf-8").splitlines(), dtype=object)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no labels there ({error})") from error
    if found.ndim != 1:
        raise UserError(f"{path} is of shape {found.shape}; give one label a row")
    return found


def _column(rows: list[dict[str, str]], path: Path) -> list[str]:
    names = list(rows[0]) if rows else []
    name = "label" if "label" in names else names[0] if len(names) == 1 else None
    if name is None:
        raise UserError(f"{path} has the columns {', '.join(names)}; call one of them label")
    return [row[name] for row in rows]
