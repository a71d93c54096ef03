from __future__ import annotations

import numpy as np
import pytest
import torch

from presel_lightning.functional import kmeans, neighbor_centrality
from presel_lightning.selectors import PreSel, SizeBalanced
from tests.selectors.pools import Pair


def largest_remainder(sizes: list[int], total: int) -> list[int]:
    quotas = [total * size / sum(sizes) for size in sizes]
    whole = [int(q) for q in quotas]
    by_fraction = sorted(range(len(sizes)), key=lambda i: whole[i] - quotas[i])
    for i in by_fraction[: total - sum(whole)]:
        whole[i] += 1
    return whole


@pytest.mark.parametrize("budget", [9, 31])
def test_size_balanced_matches_equations_6_and_7(budget: int, pair: Pair) -> None:
    pool, signals = pair
    chosen = SizeBalanced(images_per_cluster=12, neighbors=3).select(*pair, budget, seed=4)
    shares = largest_remainder([len(pool.task_rows(task)) for task in pool.tasks], budget)
    assert list(chosen.budgets.values()) == shares
    expected: set[str] = set()
    for task, share in zip(pool.tasks, shares, strict=True):
        rows = pool.task_rows(task)
        features = torch.from_numpy(signals.features(pool, rows))
        labels = kmeans(features, max(1, len(rows) // 12), seed=4).labels.numpy()
        free = ~pool.reference[rows]
        sizes = [int((free & (labels == c)).sum()) for c in range(labels.max() + 1)]
        for c, quota in enumerate(largest_remainder(sizes, share)):
            members = np.flatnonzero(free & (labels == c))
            typical = neighbor_centrality(features[members], torch.zeros(len(members)), 3)
            best = np.argsort(-typical.numpy().round(12), kind="stable")[:quota]
            expected |= set(pool.uid[rows[members[best]]])
    assert set(chosen.uids) == expected


def test_size_balanced_differs_from_presel_only_in_shares(pair: Pair) -> None:
    ours = SizeBalanced(images_per_cluster=12).select(*pair, 20, seed=0)
    theirs = PreSel(images_per_cluster=12).select(*pair, 20, seed=0)
    np.testing.assert_array_equal(ours.score, theirs.score)
    np.testing.assert_array_equal(ours.cluster, theirs.cluster)
    np.testing.assert_array_equal(ours.rank, theirs.rank)
    assert ours.budgets != theirs.budgets
    assert ours.task_weights == {"a": 70 / 103, "b": 25 / 103, "twins": 8 / 103}
