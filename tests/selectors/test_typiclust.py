from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from presel_lightning.functional import kmeans
from presel_lightning.selectors import TypiClust
from presel_lightning.selectors.base import budgets_by_size
from presel_lightning.selectors.typiclust import round_robin
from tests.selectors.pools import Case, Pair, make_pair


def turns(labels: Tensor, labelled: Tensor, total: int) -> list[int]:
    """One image a turn; the cluster of each."""
    sizes, known = torch.bincount(labels).tolist(), [0] * int(labels.max() + 1)
    for label in labels[labelled].tolist():
        known[label] += 1
    room = [size - count for size, count in zip(sizes, known, strict=True)]
    order = sorted(range(len(sizes)), key=lambda c: (known[c], -sizes[c], c))
    given_: list[int] = []
    for group in ([c for c in order if sizes[c] > 5], [c for c in order if sizes[c] <= 5]):
        while any(room[c] for c in group) and len(given_) < total:
            for c in group:
                if room[c] and len(given_) < total:
                    room[c] -= 1
                    given_.append(c)
    return given_


@given(st.integers(1, 60), st.integers(1, 12), st.integers(0, 70), st.integers(0, 10**6))
def test_round_robin_matches_a_literal_loop(n: int, clusters: int, total: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, clusters, (n,), generator=generator).unique(return_inverse=True)[1]
    labelled = torch.rand(n, generator=generator) < 0.2
    expected = np.bincount(turns(labels, labelled, total), minlength=int(labels.max()) + 1)
    assert round_robin(labels, labelled, total).tolist() == expected.tolist()


def typicality(rows: np.ndarray, k: int) -> np.ndarray:
    width = min(k, len(rows) // 2)
    if width == 0:
        return np.zeros(len(rows))
    distance = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    mean: np.ndarray = np.sort(distance, axis=1)[:, :width].mean(axis=1)
    return 1 / (mean + 1e-5)


@pytest.mark.parametrize("budget", [4, 30, 70])
def test_typiclust_matches_a_literal_loop(budget: int, pair: Pair) -> None:
    """One pick at a time, recomputing the typicality of the remaining rows."""
    pool, signals = pair
    chosen = TypiClust(max_clusters=6, neighbors=4).select(*pair, budget, seed=1)
    expected: set[str] = set()
    for task, share in zip(pool.tasks, budgets_by_size(pool, budget), strict=True):
        rows = pool.task_rows(task)
        features = signals.features(pool, rows)
        labelled = pool.reference[rows]
        k = max(1, min(int(labelled.sum()) + share, 6))
        labels = kmeans(torch.from_numpy(features), k, seed=1).labels
        left = ~labelled
        for cluster in turns(labels, torch.from_numpy(labelled), share):
            members = np.flatnonzero(left & (labels.numpy() == cluster))
            typical = typicality(features[members].astype(np.float64), 4)
            best = members[int(np.argmax(typical.round(6)))]
            left[best] = False
            expected.add(pool.uid[rows[best]])
    assert set(chosen.uids) == expected and len(expected) == budget


def test_typiclust_rank_orders_each_cluster(bare: Pair) -> None:
    pool, _ = bare
    chosen = TypiClust(max_clusters=5).select(*bare, 40, seed=0)
    taken = np.isin(pool.uid, chosen.uids)
    for task in pool.tasks:
        for cluster in np.unique(chosen.cluster[pool.task_rows(task)]):
            here = (pool.task == task) & (chosen.cluster == cluster)
            assert sorted(chosen.rank[here]) == list(range(here.sum()))
            assert (chosen.rank[here & taken] < here.sum() - (here & ~taken).sum()).all()


def test_typiclust_near_duplicates_come_last_and_are_nobodys_neighbors(
    tmp_path: Path,
) -> None:
    """Every other image is a near copy: beside the rule on the first of each alone."""
    pool, signals = make_pair(tmp_path, Case({"only": 40}, reference=0, near=True))
    firsts = signals.features(pool, np.arange(0, 40, 2)).astype(np.float64)
    left, expected = list(range(20)), []
    while left:
        typical = typicality(firsts[left], 4)
        expected.append(2 * left.pop(int(np.argmax(typical.round(6)))))
    chosen = TypiClust(max_clusters=1, neighbors=4, near_duplicates=0.999).select(
        pool, signals, 26, seed=0
    )
    assert np.argsort(chosen.rank).tolist() == expected + list(range(1, 40, 2))
