from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from scipy.special import softmax

from presel_lightning.data import Pool, load_pool
from presel_lightning.functional import kmeans, official_task_budgets
from presel_lightning.selectors import PreSel, select_in_task
from presel_lightning.signals import Signals


@pytest.fixture
def signals(finished: Path) -> Signals:
    return Signals(finished / "signals")


@pytest.fixture
def pool(finished: Path, pool_folder: Path, signals: Signals) -> Pool:
    pool = load_pool(finished, pool_folder)
    return pool.with_reference(signals.paired_loss()["uid"].to_pylist())


def test_weights_are_the_papers(pool: Pool, signals: Signals, finished: Path) -> None:
    table = pq.read_table(finished / "signals" / "paired_loss.parquet")
    means = table.group_by("task").aggregate([("irs", "mean")]).sort_by("task").to_pydict()
    expected = softmax(-np.array(means["irs_mean"]) * np.sqrt(len(means["task"])))
    found = PreSel().select(pool, signals, 24, seed=0).task_weights
    assert list(found) == means["task"]
    np.testing.assert_allclose(list(found.values()), expected, rtol=1e-9)


def test_parts_are_put_together_as_documented(pool: Pool, signals: Signals) -> None:
    """The selector is its parts, called by hand for each task."""
    method = PreSel(allocation="official", images_per_cluster=15)
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
def test_floor_never_exceeds_and_exact_meets_the_budget(
    budget: int, pool: Pool, signals: Signals
) -> None:
    floor = PreSel("floor", images_per_cluster=10).select(pool, signals, budget, seed=0)
    exact = PreSel("exact", images_per_cluster=10).select(pool, signals, budget, seed=0)
    assert len(floor.uids) <= budget == len(exact.uids)


def test_a_low_temperature_favours_the_most_relevant_task(pool: Pool, signals: Signals) -> None:
    sharp = PreSel(temperature=0.05).select(pool, signals, 20, seed=0).task_weights
    plain = PreSel().select(pool, signals, 20, seed=0).task_weights
    best = max(plain, key=plain.__getitem__)
    assert sharp[best] > plain[best]
