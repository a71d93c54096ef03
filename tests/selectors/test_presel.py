from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from scipy.special import softmax

from presel_lightning.cli.main import main
from presel_lightning.data import Pool, load_pool
from presel_lightning.functional import kmeans, official_task_budgets
from presel_lightning.functional.faiss_kmeans import faiss_kmeans
from presel_lightning.selectors import PreSel, select_in_task
from presel_lightning.selectors.weighting import IRS
from presel_lightning.selectors.within import NeighborCentrality
from presel_lightning.signals import Signals
from tests.conftest import fit_arguments
from tests.optional import require
from tests.ranks import run_on_two


@pytest.fixture
def signals(finished: Path) -> Signals:
    return Signals(finished / "signals")


@pytest.fixture
def pool(finished: Path, pool_folder: Path, signals: Signals) -> Pool:
    pool = load_pool(finished, pool_folder)
    return pool.with_reference(signals.paired_loss()["uid"].to_pylist())


def test_presel_task_weights_match_the_paper(pool: Pool, signals: Signals, finished: Path) -> None:
    table = pq.read_table(finished / "signals" / "paired_loss.parquet")
    means = table.group_by("task").aggregate([("irs", "mean")]).sort_by("task").to_pydict()
    expected = softmax(-np.array(means["irs_mean"]) * np.sqrt(len(means["task"])))
    found = PreSel().select(pool, signals, 24, seed=0).task_weights
    assert list(found) == means["task"]
    np.testing.assert_allclose(list(found.values()), expected, rtol=1e-9)


def test_presel_equals_its_documented_steps(pool: Pool, signals: Signals) -> None:
    """The selector is its parts, called by hand for each task."""
    method = PreSel(allocation="official", within=NeighborCentrality(images_per_cluster=15))
    chosen = method.select(pool, signals, 24, seed=2)
    weights = torch.tensor(list(chosen.task_weights.values()))
    sizes = torch.tensor([int((~pool.reference[pool.task_rows(t)]).sum()) for t in pool.tasks])
    expected: list[str] = []
    for task, budget in zip(pool.tasks, official_task_budgets(weights, 24, sizes), strict=True):
        rows = pool.task_rows(task)
        features = torch.from_numpy(signals.features(pool, rows))
        labels, _ = kmeans(features, max(1, len(rows) // 15), seed=2)
        excluded = torch.from_numpy(pool.reference[rows])
        picked = select_in_task(features, labels, int(budget), excluded, "official")
        expected += pool.uid[rows[picked.numpy()]].tolist()
    assert set(expected) <= set(chosen.uids.tolist()) and len(chosen.uids) == 24


@pytest.mark.parametrize("budget", [10, 24, 60])
def test_presel_floor_is_within_budget_and_exact_meets_it(
    budget: int, pool: Pool, signals: Signals
) -> None:
    within = NeighborCentrality(images_per_cluster=10)
    floor = PreSel(allocation="floor", within=within).select(pool, signals, budget, seed=0)
    exact = PreSel(allocation="exact", within=within).select(pool, signals, budget, seed=0)
    assert len(floor.uids) <= budget == len(exact.uids)


def test_presel_low_temperature_favors_the_most_relevant_task(pool: Pool, signals: Signals) -> None:
    sharp = PreSel(IRS(temperature=0.05)).select(pool, signals, 20, seed=0).task_weights
    plain = PreSel().select(pool, signals, 20, seed=0).task_weights
    best = max(plain, key=plain.__getitem__)
    assert sharp[best] > plain[best]


@pytest.mark.parametrize("seed", [0, 1])
def test_presel_faiss_backend_uses_faiss_clusters(pool: Pool, signals: Signals, seed: int) -> None:
    require("faiss")
    within = NeighborCentrality(images_per_cluster=10, backend="faiss")
    chosen = PreSel(within=within).select(pool, signals, 24, seed=seed)
    for task in pool.tasks:
        rows = pool.task_rows(task)
        features = torch.from_numpy(signals.features(pool, rows))
        expected = faiss_kmeans(features, len(rows) // 10, seed=seed).labels
        assert chosen.cluster[rows].tolist() == expected.tolist()
    assert len(chosen.uids) == 24


def select(pool: Path, finished: Path, out: Path, *more: str) -> list[str]:
    """The command for several clusters a task in a copy of the finished run."""
    shutil.copytree(finished, out)
    arguments = ["select", *fit_arguments(pool, out, "--baselines", *more)[1:]]
    return [
        *arguments,
        "--selector",
        "PreSel",
        "--selector.init_args.within.init_args.images_per_cluster",
        "5",
    ]


def table(out: Path) -> bytes:
    return (out / "selection" / "selection.parquet").read_bytes()


def reused(printed: str) -> set[str]:
    """Stages that were not done again."""
    lines = (line.split() for line in printed.splitlines())
    return {words[1] for words in lines if words[-1:] == ["reused"]}


@pytest.mark.slow
def test_clusters_do_not_depend_on_ranks_threads_or_row_order(
    finished: Path, pool_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shuffled, log = tmp_path / "pool", tmp_path / "log"
    shutil.copytree(pool_folder, shuffled)
    records = json.loads((shuffled / "train.json").read_text())
    (shuffled / "train.json").write_text(json.dumps(random.Random(0).sample(records, len(records))))
    threads = torch.get_num_threads()
    for name, pool, more in (
        ("one", pool_folder, []),
        ("threads", pool_folder, ["--threads", "2"]),
        ("shuffled", shuffled, []),
    ):
        assert main(select(pool, finished, tmp_path / name, *more)) == 0
        torch.set_num_threads(threads)
        assert {"reference", "losses", "features"} <= reused(capsys.readouterr().out)
        assert table(tmp_path / name) == table(tmp_path / "one")
    labels = pq.read_table(tmp_path / "one" / "selection" / "selection.parquet")["cluster"]
    assert pc.max(labels).as_py() >= 5
    ddp = ["--trainer.strategy", "ddp"]
    run_on_two(select(pool_folder, finished, tmp_path / "processes", *ddp), log)
    assert {"reference", "losses", "features"} <= reused(log.read_text())
    assert table(tmp_path / "processes") == table(tmp_path / "one")
