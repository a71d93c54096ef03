from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from presel_lightning.cli.main import main
from presel_lightning.data import Pool, build_pool, load_pool, source
from presel_lightning.recipe.artifacts import write_llava, write_selection
from presel_lightning.selectors import Random
from presel_lightning.signals import Signals
from tests.conftest import fit_arguments


@pytest.fixture
def pool(finished: Path, pool_folder: Path) -> Pool:
    pool = load_pool(finished, pool_folder)
    return pool.with_reference(pool.uid[::4])


def tasks(pool: Pool, out: Path, irs: dict[str, np.ndarray]) -> dict[str, dict[str, str]]:
    """`tasks.csv` of a random selection, by task."""
    selection = Random().select(pool, Signals(out / "signals"), 20, seed=0)
    write_selection(out, pool, selection, irs)
    with (out / "selection" / "tasks.csv").open(newline="") as handle:
        return {row["task"]: row for row in csv.DictReader(handle)}


def test_tasks_csv_irs_statistics_skip_undefined_values(pool: Pool, tmp_path: Path) -> None:
    irs = {task: np.array([np.nan, 0.1 * number, 0.4]) for number, task in enumerate(pool.tasks)}
    for task, row in tasks(pool, tmp_path, irs).items():
        known = irs[task][1:]
        assert int(row["undefined"]) == 1
        assert float(row["irs_mean"]) == pytest.approx(np.mean(known))
        assert float(row["irs_sem"]) == pytest.approx(np.std(known, ddof=1) / np.sqrt(2))


def test_tasks_csv_unknown_irs_is_empty(pool: Pool, tmp_path: Path) -> None:
    assert {row["irs_mean"] for row in tasks(pool, tmp_path, {}).values()} == {""}


def test_tasks_csv_shows_only_irs_of_the_same_reference_model(
    finished: Path, pool_folder: Path, tmp_path: Path
) -> None:
    """By a method that asks for none, in a folder where some lie."""
    out = shutil.copytree(finished, tmp_path / "run")
    more = ["--selector", "Random", "--data.always_reference", "true"]
    told = []
    for options in ([], ["--model.lr", "1e-4"], ["--data.reference", "10"], []):
        arguments = fit_arguments(pool_folder, out, *more, *options)
        assert main(["select", *arguments[1:]]) == 0
        with (out / "selection" / "tasks.csv").open(newline="") as handle:
            told.append({row["task"]: row["irs_mean"] for row in csv.DictReader(handle)})
    with (finished / "selection" / "tasks.csv").open(newline="") as handle:
        known = {row["task"]: row["irs_mean"] for row in csv.DictReader(handle)}
    nothing = dict.fromkeys(known, "")
    assert told == [known, nothing, nothing, known]


def test_write_llava_drops_the_weight_of_another_run(pool_folder: Path, tmp_path: Path) -> None:
    """Annotations may be a `selected.json`; what lies under `presel` is ours to write."""
    records = json.loads((pool_folder / "train.json").read_text())[:4]
    for number, record in enumerate(records):
        record["presel"] = {"weight": float(number)}
    (tmp_path / "a.json").write_text(json.dumps(records))
    build_pool(source(str(tmp_path / "a.json"), str(pool_folder)), tmp_path)
    pool = load_pool(tmp_path, pool_folder)
    write_llava(tmp_path / "b.json", pool, pool.uid, {pool.uid[1]: 2.5})
    found = {
        record["presel"]["uid"]: record["presel"].get("weight")
        for record in json.loads((tmp_path / "b.json").read_text())
    }
    assert found == {uid: 2.5 if uid == pool.uid[1] else None for uid in pool.uid}
