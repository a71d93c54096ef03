import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from torch import Tensor

from presel_lightning.errors import UserError
from presel_lightning.functional.faiss_kmeans import faiss_kmeans
from tests.optional import require

faiss = require("faiss")


def rows_of(n: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    means = 3 * torch.randn(max(2, n // 30), 16, generator=generator)
    which = torch.randint(0, len(means), (n,), generator=generator)
    return means[which] + torch.randn(n, 16, generator=generator)


def test_faiss_kmeans_is_equivariant_to_row_order() -> None:
    features = torch.cat([rows_of(3000, 0), rows_of(200, 0)])  # with duplicates
    shuffle = torch.randperm(len(features))
    straight, shuffled = (
        faiss_kmeans(features, 40, seed=3),
        faiss_kmeans(features[shuffle], 40, seed=3),
    )
    assert torch.equal(shuffled.labels, straight.labels[shuffle])
    assert torch.equal(shuffled.centroids, straight.centroids)
    assert not torch.equal(straight.labels, faiss_kmeans(features, 40, seed=4).labels)


def test_faiss_kmeans_does_not_depend_on_thread_count() -> None:
    features = rows_of(6000, 1)
    before = faiss.omp_get_max_threads()
    try:
        results = []
        for threads in (1, 2):
            faiss.omp_set_num_threads(threads)
            results.append(faiss_kmeans(features, 60, seed=0).labels)
            assert faiss.omp_get_max_threads() == threads
    finally:
        faiss.omp_set_num_threads(before)
    assert torch.equal(*results)


@settings(max_examples=50)
@given(st.integers(1, 120), st.integers(1, 90), st.integers(1, 12), st.integers(0, 10**6))
def test_faiss_kmeans_clusters_are_non_empty_and_keep_duplicates(
    n: int, k: int, values: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randint(0, values, (n, 2), generator=generator).float()
    labels, centroids = faiss_kmeans(features, k, seed=seed)
    distinct, which = features.unique(dim=0, return_inverse=True)
    assert len(centroids) == min(k, len(distinct))
    assert labels.unique().tolist() == list(range(len(centroids)))
    for row in range(len(distinct)):
        assert len(labels[which == row].unique()) == 1


def test_faiss_kmeans_inertia_is_near_scikit_learn() -> None:
    features = rows_of(3000, 2)
    labels, centroids = faiss_kmeans(features.half(), 100, seed=0)
    rows = features.half().float()
    means = torch.stack([rows[labels == label].mean(dim=0) for label in range(100)])
    torch.testing.assert_close(centroids, means, rtol=0, atol=1e-5)
    inertia = float((rows - centroids[labels]).square().sum())
    reference = KMeans(100, n_init=1, init="random", random_state=0).fit(rows.numpy()).inertia_
    assert inertia <= 1.1 * reference


def test_faiss_kmeans_without_faiss_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UserError, match=r"presel-lightning\[faiss\]"):
        faiss_kmeans(torch.ones(3, 2), 1, seed=0)


@pytest.mark.parametrize("shape", [(0, 3), (5,)])
def test_faiss_kmeans_invalid_shape_raises_value_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected rows"):
        faiss_kmeans(torch.zeros(shape), 1, seed=0)
