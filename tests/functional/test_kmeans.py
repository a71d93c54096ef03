from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn.functional import normalize

from presel_lightning.functional import kmeans
from presel_lightning.functional.dense_lloyd import N_AXES, leading_axes


def mixture(n: int, centers: int, seed: int, spread: float = 0.6, dim: int = 16) -> Tensor:
    """Rows on the unit sphere around centres of unequal size."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(centers, dim, generator=generator)
    share = 1 / torch.arange(1, centers + 1)
    which = torch.multinomial(share, n, replacement=True, generator=generator)
    return normalize(means[which] + spread * torch.randn(n, dim, generator=generator), dim=1)


def inertia(features: Tensor, labels: Tensor) -> float:
    """Sum of squared distances to the means of the clusters."""
    total = 0.0
    for label in labels.unique():
        rows = features[labels == label].double()
        total += float((rows - rows.mean(dim=0)).square().sum())
    return total


@pytest.mark.parametrize(("n", "k"), [(6000, 60), (3000, 30), (800, 8), (500, 100)])
def test_kmeans_inertia_is_within_two_percent_of_scikit_learn(n: int, k: int) -> None:
    features = mixture(n, 3 * k, seed=n)
    ours = [inertia(features, kmeans(features, k, seed=s).labels) for s in range(3)]
    theirs = [KMeans(k, n_init=1, random_state=s).fit(features.numpy()).inertia_ for s in range(3)]
    assert np.mean(ours) <= 1.02 * np.mean(theirs)


def test_kmeans_inertia_with_duplicates_matches_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    heads = torch.randn(90, 96, generator=generator)
    copies = heads[torch.randint(0, 90, (3000,), generator=generator)]
    features = normalize(torch.cat([copies, torch.randn(3000, 96, generator=generator)]), dim=1)
    ours = [inertia(features, kmeans(features, 60, seed=s).labels) for s in range(3)]
    theirs = [KMeans(60, n_init=1, random_state=s).fit(features.numpy()).inertia_ for s in range(3)]
    assert np.mean(ours) <= 1.01 * np.mean(theirs)


def test_kmeans_inertia_on_isotropic_rows_beats_scikit_learn() -> None:
    features = normalize(torch.randn(4000, 96, generator=torch.Generator().manual_seed(0)), dim=1)
    ours = inertia(features, kmeans(features, 40, seed=0).labels)
    assert ours < KMeans(40, n_init=1, random_state=0).fit(features.numpy()).inertia_


def falling(n: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Rows of a mixture whose variance falls with the dimension, some of them copies."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.arange(1, 321) ** -0.5
    means = torch.randn(60, 320, generator=generator) * scale
    which = torch.randint(0, 60, (n,), generator=generator)
    rows = means[which] + torch.randn(n, 320, generator=generator) * scale
    rows[: n // 10] = rows[n // 10 : 2 * (n // 10)]
    return normalize(rows, dim=1).to(dtype)


def test_kmeans_inertia_on_rows_of_falling_variance_matches_scikit_learn() -> None:
    features = falling(6000, 0)
    ours = [inertia(features, kmeans(features, 60, seed=s).labels) for s in range(3)]
    theirs = [KMeans(60, n_init=1, random_state=s).fit(features.numpy()).inertia_ for s in range(3)]
    assert np.mean(ours) <= 1.001 * np.mean(theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_kmeans_on_rows_of_falling_variance_does_not_depend_on_order_or_threads(
    dtype: torch.dtype,
) -> None:
    features = falling(2500, 1, dtype)
    order = torch.randperm(2500, generator=torch.Generator().manual_seed(2))
    expected = kmeans(features, 25, seed=0)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    found = kmeans(features[order], 25, seed=0)
    torch.set_num_threads(before)
    assert torch.equal(found.labels, expected.labels[order])
    assert expected.labels.unique().tolist() == list(range(25))
    means = torch.stack([features[expected.labels == c].double().mean(dim=0) for c in range(25)])
    torch.testing.assert_close(expected.centroids.double(), means, rtol=0, atol=1e-6)


def test_leading_axes_are_those_of_an_svd_where_few_directions_hold_the_variance() -> None:
    rows = falling(1000, 0)
    axes = leading_axes(rows)
    assert axes is not None
    basis = np.linalg.svd((rows - rows.mean(dim=0)).numpy().astype(np.float64))[2][:N_AXES].T
    overlap = np.linalg.svd(basis.T @ axes.numpy())[1]  # cosines of the angles between both spaces
    assert overlap.min() > 0.999
    assert leading_axes(torch.randn(1000, 320, generator=torch.Generator().manual_seed(0))) is None
    assert leading_axes(rows[:, :200]) is None and leading_axes(rows[:200]) is None


def test_kmeans_treats_negative_zero_as_zero() -> None:
    features = torch.tensor([[0.0, 1.0], [-0.0, 1.0], [2.0, 2.0]])
    assert kmeans(features, 3, seed=0).labels.unique().tolist() == [0, 1]


@pytest.mark.parametrize(("n", "k"), [(40, 20), (9000, 120)])
def test_kmeans_is_equivariant_to_row_order(n: int, k: int) -> None:
    features = mixture(n, 3 * k, seed=1)
    shuffle = torch.randperm(n)
    straight, shuffled = kmeans(features, k, seed=3), kmeans(features[shuffle], k, seed=3)
    assert torch.equal(shuffled.labels, straight.labels[shuffle])
    assert torch.equal(shuffled.centroids, straight.centroids)


def test_kmeans_most_rows_have_the_nearest_centroid() -> None:
    features = mixture(9000, 360, seed=9)
    labels, centroids = kmeans(features, 120, seed=0)
    nearest = torch.cdist(features, centroids).argmin(dim=1)
    assert (nearest == labels).double().mean() > 0.95


def test_kmeans_does_not_depend_on_thread_count() -> None:
    features = mixture(5000, 60, seed=2, dim=96)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(kmeans(features, 50, seed=0))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert torch.equal(other.labels, results[0].labels)
        assert torch.equal(other.centroids, results[0].centroids)


def test_kmeans_depends_only_on_the_seed() -> None:
    features = mixture(1000, 50, seed=4)
    assert torch.equal(kmeans(features, 20, seed=0).labels, kmeans(features, 20, seed=0).labels)
    assert not torch.equal(kmeans(features, 20, seed=0).labels, kmeans(features, 20, seed=1).labels)


@given(st.integers(1, 120), st.integers(1, 90), st.integers(1, 12), st.integers(0, 10**6))
def test_kmeans_clusters_are_non_empty_and_keep_duplicates(
    n: int, k: int, values: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randint(0, values, (n, 2), generator=generator).float()
    labels, centroids = kmeans(features, k, seed=seed)
    distinct, which = features.unique(dim=0, return_inverse=True)
    assert len(centroids) == min(k, len(distinct))
    assert labels.unique().tolist() == list(range(len(centroids)))
    for row in range(len(distinct)):
        assert len(labels[which == row].unique()) == 1


def test_kmeans_centroids_are_the_means_of_their_rows() -> None:
    features = torch.cat([mixture(400, 9, seed=5), mixture(50, 9, seed=5)])  # with duplicates
    labels, centroids = kmeans(features, 7, seed=0)
    means = torch.stack([features[labels == label].mean(dim=0) for label in range(7)])
    torch.testing.assert_close(centroids, means, rtol=0, atol=1e-6)


def test_kmeans_of_one_row_or_one_cluster_has_one_label() -> None:
    assert kmeans(torch.ones(1, 3), 1, seed=0).labels.tolist() == [0]
    labels, centroids = kmeans(mixture(50, 3, seed=6), 1, seed=0)
    assert labels.tolist() == [0] * 50 and centroids.shape == (1, 16)


def test_kmeans_accepts_memory_mapped_half_precision(tmp_path: Path) -> None:
    features = mixture(1500, 20, seed=7).half().numpy()
    np.save(tmp_path / "features.npy", features)
    mapped = torch.from_numpy(np.load(tmp_path / "features.npy", mmap_mode="r+"))
    single = torch.from_numpy(features).float()
    assert torch.equal(kmeans(mapped, 15, seed=0).labels, kmeans(single, 15, seed=0).labels)


@pytest.mark.parametrize("shape", [(0, 3), (5,)])
def test_kmeans_invalid_shape_raises_value_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected rows"):
        kmeans(torch.zeros(shape), 1, seed=0)


def test_kmeans_non_finite_feature_raises_value_error() -> None:
    features = mixture(10, 2, seed=8)
    features[7, 3] = torch.nan
    with pytest.raises(ValueError, match="not all finite"):
        kmeans(features, 2, seed=0)


def test_kmeans_creates_tensors_only_on_the_given_device() -> None:
    """What runs where an unnamed device is one without values runs on a GPU too."""
    features = mixture(3000, 120, seed=10)
    expected = kmeans(features, 60, seed=0)
    with torch.device("meta"):
        found = kmeans(features, 60, seed=0, device="cpu")
    assert torch.equal(found.labels, expected.labels)
    assert torch.equal(found.centroids, expected.centroids)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_kmeans_on_gpu_is_equivariant_to_row_order() -> None:
    features = mixture(9000, 360, seed=11)
    shuffle = torch.randperm(len(features))
    straight = kmeans(features, 120, seed=0, device="cuda")
    shuffled = kmeans(features[shuffle].cuda(), 120, seed=0, device="cuda")
    assert torch.equal(shuffled.labels, straight.labels[shuffle])
    on_cpu = inertia(features, kmeans(features, 120, seed=0).labels)
    assert inertia(features, straight.labels) <= 1.02 * on_cpu
