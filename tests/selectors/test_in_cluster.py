from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from presel_lightning.functional import neighbor_centrality
from presel_lightning.selectors.in_cluster import Within, in_cluster

WITHIN: tuple[Within, ...] = ("centrality", "coverage", "random")


def features(n: int, seed: int = 0, d: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(n, d, generator=generator, dtype=torch.float64), dim=1)


@given(
    st.integers(1, 20),
    st.integers(0, 5),
    st.sampled_from(WITHIN),
    st.none() | st.floats(-0.5, 1.0),
)
def test_in_cluster_order_is_a_permutation(
    n: int, seed: int, within: Within, near: float | None
) -> None:
    order, score = in_cluster(within, near_duplicates=near, seed=seed)(features(n, seed))
    assert sorted(order.tolist()) == list(range(n)) and score.shape == (n,)


def test_in_cluster_centrality_sorts_by_neighbor_centrality() -> None:
    rows = features(30)
    order, score = in_cluster(neighbors=3)(rows)
    expected = neighbor_centrality(rows, torch.zeros(30, dtype=torch.int64), k=3)
    assert torch.equal(score, expected)
    assert (score[order].diff() <= 1e-12).all()


def test_in_cluster_equal_rows_keep_their_order() -> None:
    order, _ = in_cluster()(torch.ones(6, 3))
    assert order.tolist() == list(range(6))


def test_in_cluster_coverage_is_greedy_k_center() -> None:
    rows = features(12, d=3)
    order, score = in_cluster("coverage")(rows)
    taken = [int(score.argmax())]
    while len(taken) < len(rows):  # greedy k-center, literally
        distance = torch.cdist(rows, rows[taken]).amin(dim=1)
        distance[taken] = -1
        taken.append(int(distance.argmax()))
    assert order.tolist() == taken


def test_in_cluster_random_depends_only_on_the_seed() -> None:
    rows = features(40)
    one, again, other = (in_cluster("random", seed=s)(rows)[0].tolist() for s in (1, 1, 2))
    assert one == again != other
    assert one == in_cluster("random", seed=1)(features(40, seed=9))[0].tolist()


@pytest.mark.parametrize("within", WITHIN)
def test_in_cluster_near_duplicates_come_last_and_do_not_count(within: Within) -> None:
    """Ten copies of one image would otherwise be the most typical of all."""
    rows = torch.cat([features(8), features(1, seed=5).repeat(10, 1), features(4, seed=7)])
    order, score = in_cluster(within, near_duplicates=0.999)(rows)
    copies = set(range(9, 18))  # the first of the ten stays
    assert set(order[-9:].tolist()) == copies
    assert order[-9:].tolist() == sorted(copies)
    kept = [row for row in range(len(rows)) if row not in copies]
    alone = neighbor_centrality(rows[kept], torch.zeros(len(kept), dtype=torch.int64))
    assert torch.equal(score[kept], alone)
    assert (score[sorted(copies)] == -1).all()
