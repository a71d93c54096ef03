"""Medoids against the rule written out on the same clusters."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from presel_lightning.functional import kmeans, medoids
from presel_lightning.functional.medoids import divided_kmeans, repeated


def points(n: int, seed: int, d: int = 4) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def literal_order(rows: Tensor, labels: Tensor, taken: Tensor, k: int) -> list[int]:
    """The order, one key at a time; distances in float64 to centroids in float32, as stated."""
    centroids = kmeans(rows, k, seed=0).centroids.double()
    keys = {}
    for cluster in labels.unique().tolist():
        members = (labels == cluster).nonzero()[:, 0].tolist()
        distance = {
            row: round(float((rows[row] - centroids[cluster]).norm()), 9) for row in members
        }
        known = [row for row in members if taken[row]]
        waiting = sorted((row for row in members if not taken[row]), key=lambda r: (distance[r], r))
        for turn, row in enumerate(waiting, len(known)):
            keys[row] = (bool(known), turn, -len(members), row)
    return sorted(keys, key=lambda row: keys[row])


@settings(max_examples=50)
@given(st.integers(1, 30), st.integers(0, 30), st.integers(0, 5), st.data())
def test_medoids_order_equals_the_rule_written_out(
    n: int, m: int, seed: int, data: st.DataObject
) -> None:
    rows = points(n, seed).double()
    taken = torch.zeros(n, dtype=torch.bool)
    taken[data.draw(st.lists(st.integers(0, n - 1), max_size=n // 2))] = True
    found = medoids(rows, m, taken, seed=0)
    k = min(n, max(1, int(taken.sum()) + m))
    assert torch.equal(found.labels, kmeans(rows, k, seed=0).labels)
    assert found.order.tolist() == literal_order(rows, found.labels, taken, k)


def test_medoids_taken_clusters_give_last() -> None:
    blobs = torch.cat([points(10, s) * 0.01 + 10 * torch.eye(4)[s] for s in range(4)])
    taken = torch.zeros(40, dtype=torch.bool)
    taken[[3, 17]] = True  # of the first two blobs
    picks = medoids(blobs, 2, taken, seed=0).order[:2]
    assert sorted((picks // 10).tolist()) == [2, 3]


@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 40), st.booleans())
def test_medoids_copies_come_last(distinct: int, copies: int, m: int, one_taken: bool) -> None:
    rows = points(distinct, 0).repeat(copies, 1)
    taken = torch.zeros(len(rows), dtype=torch.bool)
    taken[-1] = one_taken
    order = medoids(rows, m, taken, seed=0).order % distinct
    first = order[: distinct - one_taken].tolist()
    assert sorted(first) == list(range(distinct - one_taken))  # each picture once
    assert int(repeated(rows, taken).sum()) == len(rows) - distinct


def test_medoids_near_duplicates_come_last() -> None:
    rows = torch.cat([points(6, 0), points(1, 1) + 1e-3 * points(6, 2)])
    order = medoids(rows, 7, seed=0, near_duplicates=0.99).order[:7]
    assert len(set(order.tolist()) & set(range(6))) == 6


@settings(max_examples=30)  # 0.4 seconds each
@given(st.integers(1, 300), st.integers(1, 300), st.integers(5, 100), st.integers(1, 300))
def test_divided_kmeans_has_all_its_clusters(n: int, k: int, largest: int, distinct: int) -> None:
    rows = points(min(n, distinct), 0, d=2).repeat(-(-n // min(n, distinct)), 1)[:n]
    found = divided_kmeans(rows, k, seed=0, largest=largest)
    sizes = torch.bincount(found.labels, minlength=len(found.centroids))
    assert (sizes > 0).all() and len(sizes) <= min(k, distinct)
    if distinct >= n:
        assert len(sizes) == min(k, n)
    means = torch.stack([rows[found.labels == c].double().mean(0) for c in range(len(sizes))])
    torch.testing.assert_close(found.centroids.double(), means, rtol=1e-4, atol=1e-5)


def test_divided_kmeans_inertia_is_near_that_of_one_kmeans() -> None:
    rows = points(3000, 0, d=16)

    def inertia(largest: int) -> float:
        found = divided_kmeans(rows, 200, seed=0, largest=largest)
        return float((rows - found.centroids[found.labels]).square().sum())

    assert inertia(3000) <= inertia(1000) <= 1.06 * inertia(3000)
