import pytest
import torch

from presel_lightning.functional.seeding import plus_plus, squared_distances, two_levels


def blobs(k: int, each: int) -> torch.Tensor:
    """Rows in k small heaps that lie far apart."""
    generator = torch.Generator().manual_seed(k)
    centers = 100 * torch.randn(k, 8, generator=generator)
    return centers.repeat_interleave(each, dim=0) + torch.randn(k * each, 8, generator=generator)


def test_squared_distances_match_cdist() -> None:
    rows, centroids = torch.randn(7, 5), torch.randn(3, 5)
    distances = squared_distances(rows, centroids) + rows.square().sum(dim=1, keepdim=True)
    torch.testing.assert_close(distances, torch.cdist(rows, centroids) ** 2)


def test_plus_plus_seeds_every_separated_blob() -> None:
    rows = blobs(6, 50)
    seeds = plus_plus(rows, torch.ones(300).double(), 6, torch.Generator().manual_seed(0))
    heap = torch.cdist(seeds, rows).argmin(dim=1) // 50
    assert sorted(heap.tolist()) == [0, 1, 2, 3, 4, 5]


def test_plus_plus_never_samples_zero_weight_rows() -> None:
    rows, weight = torch.randn(100, 3), torch.zeros(100).double()
    weight[:10] = 1
    for seed in range(20):
        seeds = plus_plus(rows, weight, 10, torch.Generator().manual_seed(seed))
        assert sorted(torch.cdist(seeds, rows).argmin(dim=1).tolist()) == list(range(10))


@pytest.mark.parametrize(("k", "cells"), [(1, 1), (32, 1), (33, 6), (144, 12)])
def test_two_levels_returns_k_distinct_centroids(k: int, cells: int) -> None:
    rows = blobs(20, 40)
    weight = torch.ones(len(rows)).double()
    centroids, middles = two_levels(rows, weight, k, torch.Generator().manual_seed(0))
    assert len(centroids) == k and len(middles) == cells
    assert len(centroids.unique(dim=0)) == k


def test_two_levels_gives_more_centroids_to_diffuse_cells() -> None:
    generator = torch.Generator().manual_seed(0)
    tight = 0.1 * torch.randn(1000, 4, generator=generator)
    loose = 100 + 10 * torch.randn(1000, 4, generator=generator)
    rows = torch.cat([tight, loose])[torch.randperm(2000, generator=generator)]
    centroids, _ = two_levels(rows, torch.ones(2000).double(), 50, generator)
    assert int((centroids.mean(dim=1) > 50).sum()) > 40
