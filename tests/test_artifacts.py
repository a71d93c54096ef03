from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from presel_lightning.artifacts import write_selection
from presel_lightning.data import Pool, load_pool
from presel_lightning.selectors import Random
from presel_lightning.signals import PAIRED_COLUMNS, Signals


@pytest.fixture
def pool(finished: Path, pool_folder: Path) -> Pool:
    pool = load_pool(finished, pool_folder)
    return pool.with_reference(pool.uid[::4])


def tasks(pool: Pool, signals: Signals, out: Path) -> dict[str, dict[str, str]]:
    """`tasks.csv` of a draw, by task."""
    selection = Random().select(pool, signals, 20, seed=0)
    write_selection(out, pool, selection, signals)
    with (out / "selection" / "tasks.csv").open(newline="") as handle:
        return {row["task"]: row for row in csv.DictReader(handle)}


def losses(pool: Pool, rows: np.ndarray, irs: list[float | None]) -> pa.Table:
    task = pa.array(pool.task[rows], pa.string())
    irs_column = pa.array(irs, pa.float64())
    other = dict.fromkeys(PAIRED_COLUMNS[2:5], pa.array(np.ones(len(rows))))
    return pa.table({"uid": pa.array(pool.uid[rows]), "task": task, **other, "irs": irs_column})


def test_figures_of_a_task_are_those_of_its_defined_irs(pool: Pool, tmp_path: Path) -> None:
    rows = np.flatnonzero(pool.reference)
    irs = [None if number == 0 else 0.1 * number for number in range(len(rows))]
    signals = Signals(tmp_path / "signals")
    signals.write_paired_loss(losses(pool, rows, irs))
    for task, row in tasks(pool, signals, tmp_path).items():
        here = [irs[at] for at in np.flatnonzero(pool.task[rows] == task)]
        known = [value for value in here if value is not None]
        assert int(row["undefined"]) == len(here) - len(known)
        assert float(row["irs_mean"]) == pytest.approx(np.mean(known))
        spread = np.std(known, ddof=1) / np.sqrt(len(known))
        assert float(row["irs_sem"]) == pytest.approx(spread)


@pytest.mark.parametrize("others", [False, True])
def test_irs_that_are_not_of_this_reference_split_are_left_empty(
    pool: Pool, tmp_path: Path, others: bool
) -> None:
    signals = Signals(tmp_path / "signals")
    if others:
        signals.write_paired_loss(losses(pool, np.arange(1, 4), [0.5, 0.6, 0.7]))
    assert {row["irs_mean"] for row in tasks(pool, signals, tmp_path).values()} == {""}
