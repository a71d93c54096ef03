from __future__ import annotations

import numpy as np
import pytest
import torch

from presel_lightning.functional import kmeans
from presel_lightning.selectors import SemDeDup
from tests.selectors.pools import Pair


@pytest.mark.parametrize("epsilon", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("which", ["pair", "bare"])
def test_semdedup_matches_the_published_threshold_rule(
    epsilon: float, which: str, request: pytest.FixtureRequest
) -> None:
    """Keep by threshold as published; the budget that is left keeps the same images."""
    pool, signals = request.getfixturevalue(which)
    features = signals.features(pool, np.arange(len(pool)))
    clusters = kmeans(torch.from_numpy(features), len(pool) // 20, seed=2)
    kept: list[int] = []
    for label, centroid in enumerate(clusters.centroids.double().numpy()):
        members = np.flatnonzero(clusters.labels.numpy() == label)
        near = (features[members].astype(np.float64) @ centroid).round(10)
        order = members[np.lexsort((near, ~pool.reference[members]))]
        for place, row in enumerate(order):
            before = features[order[:place]].astype(np.float64)
            if place == 0 or (before @ features[row].astype(np.float64)).max() <= 1 - epsilon:
                kept.append(row)
    expected = {row for row in kept if not pool.reference[row]}
    chosen = SemDeDup(images_per_cluster=20).select(pool, signals, len(expected), seed=2)
    assert set(chosen.uids) == set(pool.uid[sorted(expected)])
    np.testing.assert_array_equal(chosen.cluster, clusters.labels)


def test_semdedup_keeps_one_of_each_duplicate_group(bare: Pair) -> None:
    pool, _ = bare
    chosen = SemDeDup().select(*bare, len(pool) - 7, seed=0)
    assert chosen.budgets["twins"] == 1
    np.testing.assert_allclose(np.sort(chosen.score)[:7], 0, atol=1e-6)


def test_semdedup_drops_duplicates_of_reference_images(pair: Pair) -> None:
    pool, _ = pair
    assert pool.reference[pool.task == "twins"].any()
    chosen = SemDeDup().select(*pair, 70, seed=0)
    assert chosen.budgets["twins"] == 0
