from __future__ import annotations

import numpy as np
import pytest

from presel_lightning.selectors import Prism
from presel_lightning.selectors.base import budgets_by_size
from tests.selectors.pools import Pair


@pytest.mark.parametrize("budget", [5, 40])
def test_prism_keeps_the_lowest_mean_correlations_per_task(budget: int, pair: Pair) -> None:
    pool, signals = pair
    chosen = Prism().select(*pair, budget, seed=0)
    expected: set[str] = set()
    for task, share in zip(pool.tasks, budgets_by_size(pool, budget), strict=True):
        rows = pool.task_rows(task)
        features = signals.features(pool, rows).astype(np.float64)
        if task == "twins":  # no variance: they correlate with nothing, and go by uid
            mean = np.zeros(len(rows))
        else:
            mean = np.array(
                [np.mean([np.corrcoef(x, y)[0, 1] for y in features]) for x in features]
            )
        np.testing.assert_allclose(
            chosen.score[rows][~pool.reference[rows]], -mean[~pool.reference[rows]], atol=1e-9
        )
        free = np.flatnonzero(~pool.reference[rows])
        expected |= set(pool.uid[rows[free[np.argsort(mean[free], kind="stable")[:share]]]])
    assert set(chosen.uids) == expected


def test_prism_does_not_depend_on_the_seed(pair: Pair) -> None:
    choices = [Prism().select(*pair, 30, seed=seed).uids.tolist() for seed in (0, 1)]
    assert choices[0] == choices[1]
