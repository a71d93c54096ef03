"""The order in which each rule takes the images of a cluster, against it written out."""

from __future__ import annotations

import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from presel_lightning.errors import UserError
from presel_lightning.functional import neighbor_centrality
from presel_lightning.selectors.within import Coverage, InClusters, NeighborCentrality, RandomOrder
from tests.optional import require

RULES: tuple[type[InClusters], ...] = (NeighborCentrality, Coverage, RandomOrder)


def features(n: int, seed: int = 0, d: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(n, d, generator=generator, dtype=torch.float64), dim=1)


def order_of(rule: InClusters, rows: Tensor, seed: int = 0) -> tuple[list[int], Tensor]:
    """The order of one cluster and its scores, through the rule's own door."""
    found = rule.select(rows, len(rows), torch.zeros(len(rows)).bool(), seed=seed)
    assert found.rows.tolist() == list(range(len(rows))) and (found.cluster == 0).all()
    return found.rank.argsort().tolist(), found.score


@given(
    st.integers(1, 20),
    st.integers(0, 5),
    st.sampled_from(RULES),
    st.none() | st.floats(-0.5, 1.0),
)
def test_order_of_a_cluster_holds_every_row_once(
    n: int, seed: int, kind: type[InClusters], near: float | None
) -> None:
    rule = kind(near_duplicates=near)
    order, score = order_of(rule, features(n, seed), seed)
    assert sorted(order) == list(range(n)) and score.shape == (n,)


def test_neighbor_centrality_is_the_papers_order() -> None:
    rows = features(30)
    order, score = order_of(NeighborCentrality(neighbors=3), rows)
    expected = neighbor_centrality(rows, torch.zeros(30, dtype=torch.int64), k=3)
    assert torch.equal(score, expected)
    assert (score[order].diff() <= 1e-12).all()


@pytest.mark.parametrize("kind", [NeighborCentrality, Coverage])
def test_equal_rows_keep_their_order(kind: type[InClusters]) -> None:
    order, _ = order_of(kind(), torch.ones(6, 3))
    assert order == list(range(6))


def test_coverage_begins_with_the_most_central_and_goes_to_the_farthest() -> None:
    rows = features(12, d=3)
    order, score = order_of(Coverage(), rows)
    taken = [int(score.argmax())]
    while len(taken) < len(rows):  # greedy k-center, literally
        distance = torch.cdist(rows, rows[taken]).amin(dim=1)
        distance[taken] = -1
        taken.append(int(distance.argmax()))
    assert order == taken


def test_random_order_follows_the_seed_alone() -> None:
    rows = features(40)
    one, again, other = (order_of(RandomOrder(), rows, seed)[0] for seed in (1, 1, 2))
    assert one == again != other
    assert one == order_of(RandomOrder(), features(40, seed=9), 1)[0]


@pytest.mark.parametrize("kind", RULES)
def test_near_duplicates_come_last_and_are_nobodys_neighbors(kind: type[InClusters]) -> None:
    """Ten copies of one image would otherwise be the most typical of all."""
    rows = torch.cat([features(8), features(1, seed=5).repeat(10, 1), features(4, seed=7)])
    order, score = order_of(kind(near_duplicates=0.999), rows)
    copies = set(range(9, 18))  # the first of the ten stays
    assert set(order[-9:]) == copies
    assert order[-9:] == sorted(copies)
    kept = [row for row in range(len(rows)) if row not in copies]
    alone = neighbor_centrality(rows[kept], torch.zeros(len(kept), dtype=torch.int64))
    assert torch.equal(score[kept], alone)
    assert (score[sorted(copies)] == -1).all()


@pytest.mark.parametrize("kind", RULES)
def test_backend_or_device_that_is_not_there_is_refused(
    kind: type[InClusters], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"within\.init_args\.device is cuda"):
        kind(device="cuda")
    assert kind(device="auto").fingerprint() == kind().fingerprint()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert kind(device="auto").fingerprint() == kind(device="cuda").fingerprint()
    assert kind(device="auto").fingerprint() != kind().fingerprint()
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "faiss", None)
        with pytest.raises(UserError, match=r"presel-lightning\[faiss\]"):
            kind(backend="faiss")


def test_faiss_on_a_gpu_is_refused() -> None:
    require("faiss")
    with pytest.raises(UserError, match="backend faiss runs on the CPU"):
        NeighborCentrality(backend="faiss", device="auto")
