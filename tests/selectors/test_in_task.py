import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.nn.functional import normalize

from presel_lightning.functional import neighbor_centrality
from presel_lightning.selectors.in_task import select_from_clusters, select_in_task


@st.composite
def tasks(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    n, clusters = draw(st.integers(1, 80)), draw(st.integers(1, 8))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    features = normalize(torch.randn(n, 4, generator=generator), dim=1)
    labels = torch.randint(0, clusters, (n,), generator=generator)
    excluded = torch.rand(n, generator=generator) < draw(st.sampled_from([0.0, 0.1, 0.6]))
    return features, labels, excluded


def official_quotas(full: list[int], free: list[int], wanted: int) -> list[int]:
    """The authors' steps 3 and 4: rounding, then one pass by full size."""
    quotas = [min(int(np.round(count / sum(free) * wanted)), count) for count in free]
    gap = wanted - sum(quotas)
    step = 1 if gap > 0 else -1
    for c in sorted(range(len(full)), key=lambda label: full[label], reverse=gap > 0):
        if gap == 0:
            break
        if (gap > 0 and quotas[c] < free[c]) or (gap < 0 and quotas[c] > 0):
            quotas[c] += step
            gap -= step
    return quotas


def official(features: Tensor, labels: Tensor, excluded: Tensor, wanted: int) -> set[int]:
    """The authors' steps 3 to 5, written out a second time on numpy and scikit-learn."""
    vectors, clusters = features.numpy(), labels.numpy()
    if excluded.all():
        return set()
    names, full = np.unique(clusters, return_counts=True)
    free = [np.flatnonzero((clusters == name) & ~excluded.numpy()) for name in names]
    quotas = official_quotas(full.tolist(), [len(rows) for rows in free], wanted)
    chosen: set[int] = set()
    for rows, quota in zip(free, quotas, strict=True):
        if quota > 0:
            k = min(5, len(rows) - 1)
            search = NearestNeighbors(n_neighbors=k + 1, metric="cosine").fit(vectors[rows])
            similarity = 1 - search.kneighbors(vectors[rows])[0][:, 1:]
            typical = similarity.mean(axis=1) if k else np.zeros(1)
            chosen |= set(rows[np.argsort(-typical, kind="stable")[:quota]].tolist())
    return chosen


@given(tasks(), st.integers(0, 100))
def test_official_allocation_matches_the_authors_scripts(
    task: tuple[Tensor, Tensor, Tensor], budget: int
) -> None:
    features, labels, excluded = task
    rows = select_in_task(features.double(), labels, budget, excluded, "official")
    assert set(rows.tolist()) == official(features.double(), labels, excluded, budget)


def test_official_allocation_rounding_may_miss_the_budget() -> None:
    labels = torch.tensor([0] * 3 + [1] * 3)
    features = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    nothing = torch.zeros(6, dtype=torch.bool)
    # 1.5 each rounds to 2 (half to even): one too many, taken from the first of the smallest
    assert select_from_clusters(features, labels, 3, nothing, "official").quota.tolist() == [1, 2]
    # 0.5 each rounds to 0: the pass gives one to the first
    assert select_from_clusters(features, labels, 1, nothing, "official").quota.tolist() == [1, 0]


@given(tasks(), st.integers(0, 100))
def test_exact_allocation_meets_the_budget_and_skips_excluded(
    task: tuple[Tensor, Tensor, Tensor], budget: int
) -> None:
    features, labels, excluded = task
    picked = select_from_clusters(features, labels, budget, excluded)
    assert len(picked.rows) == min(budget, int((~excluded).sum())) == picked.quota.sum()
    assert not excluded[picked.rows].any()
    assert picked.rows.unique().tolist() == picked.rows.tolist()


@given(tasks(), st.floats(0, 100))
def test_floor_allocation_is_equation_6_rounded_down(
    task: tuple[Tensor, Tensor, Tensor], budget: float
) -> None:
    features, labels, excluded = task
    quota = select_from_clusters(features, labels, budget, excluded, "floor").quota
    available = int((~excluded).sum())
    for c, got in enumerate(quota.tolist()):
        count = int(((labels == c) & ~excluded).sum())
        ideal = budget * count / max(available, 1)
        assert got == count or math.floor(ideal - 1e-6) <= got <= ideal + 1e-6


@given(tasks(), st.integers(0, 100))
def test_each_cluster_keeps_its_most_central_available_rows(
    task: tuple[Tensor, Tensor, Tensor], budget: int
) -> None:
    features, labels, excluded = task
    picked = select_from_clusters(features, labels, budget, excluded)
    free = ~excluded
    expected = neighbor_centrality(features[free], labels[free])
    torch.testing.assert_close(picked.score[free], expected, rtol=0, atol=1e-12)
    assert picked.score[excluded].isnan().all() and (picked.rank[excluded] == -1).all()
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    chosen[picked.rows] = True
    for c in labels[free].unique():
        here = free & (labels == c)
        assert sorted(picked.rank[here].tolist()) == list(range(int(here.sum())))
        assert int(chosen[here].sum()) == picked.quota[c]
        if chosen[here].any() and not chosen[here].all():
            best_left = picked.score[here & ~chosen].max()
            assert picked.score[here & chosen].min() >= best_left - 1e-12


def test_select_in_task_equal_scores_keep_the_earlier_row() -> None:
    features = torch.ones(6, 3) * torch.arange(1, 7)[:, None]
    rows = select_in_task(features, torch.zeros(6, dtype=torch.int64), 3, torch.zeros(6).bool())
    assert rows.tolist() == [0, 1, 2]


def test_task_fully_in_the_reference_selects_nothing() -> None:
    features, labels = torch.randn(4, 2), torch.tensor([0, 0, 1, 1])
    for allocation in ("exact", "floor", "official"):
        picked = select_from_clusters(features, labels, 2, torch.ones(4).bool(), allocation)
        assert picked.rows.tolist() == [] and picked.quota.tolist() == [0, 0]


@pytest.mark.parametrize(("budget", "rows"), [(1.5, 4), (-1, 4), (1, 3)])
def test_invalid_budget_or_length_raises_value_error(budget: float, rows: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        select_from_clusters(
            torch.randn(4, 2), torch.zeros(4).long(), budget, torch.zeros(rows).bool()
        )
