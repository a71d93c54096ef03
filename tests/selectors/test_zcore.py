from __future__ import annotations

import numpy as np
import torch

from presel_lightning.functional import draw_points
from presel_lightning.selectors import ZCore
from tests.selectors.pools import Pair


def test_zcore_keeps_the_highest_scores_of_a_literal_loop(pair: Pair) -> None:
    pool, signals = pair
    x = signals.features(pool, np.arange(len(pool)))
    dimensions, places = draw_points(torch.from_numpy(x), 300, 5)
    score = np.zeros(len(x))
    for dims, place in zip(dimensions.numpy(), places.numpy().astype(np.float32), strict=True):
        covering = int(np.abs(x[:, dims] - place).sum(axis=1).argmin())
        score[covering] += 1
        distance = np.abs(x[:, dims] - x[covering, dims]).sum(axis=1).astype(np.float64)
        distance[covering] = np.inf
        last = np.sort(distance)[9]
        weight = np.where(distance <= last, distance, np.inf)
        weight = 1.0 * (weight == 0) if weight.min() == 0 else (weight / weight.min()) ** -4.0
        score -= weight / weight.sum()
    score = (score - score.min()) / (score.max() - score.min())
    chosen = ZCore(draws=300, neighbors=10).select(*pair, 25, seed=5)
    free = ~pool.reference
    np.testing.assert_allclose(chosen.score[free], score[free], atol=1e-9)
    best = np.flatnonzero(free)[np.argsort(-score[free], kind="stable")[:25]]
    assert set(chosen.uids) == set(pool.uid[best])


def test_zcore_default_samples_ten_points_per_image(bare: Pair) -> None:
    pool, _ = bare
    as_told = ZCore(draws=10 * len(pool)).select(*bare, 20, seed=1)
    np.testing.assert_array_equal(ZCore().select(*bare, 20, seed=1).score, as_told.score)
    assert set(ZCore().select(*bare, 20, seed=2).uids) != set(as_told.uids)


def test_zcore_selects_at_most_one_duplicate(bare: Pair) -> None:
    chosen = ZCore().select(*bare, 20, seed=0)
    assert chosen.budgets["twins"] <= 1
