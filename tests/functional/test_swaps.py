import torch
from torch import Tensor

from presel_lightning.functional.swaps import swap_centroids


def three_heaps() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    centers = torch.tensor([[0.0, 0.0], [50.0, 0.0], [56.0, 0.0]])
    return centers.repeat_interleave(40, dim=0) + 0.5 * torch.randn(120, 2, generator=generator)


def clustering(rows: Tensor, members: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Means of the clusters, and the squared distance of each row to its own."""
    means = torch.stack([rows[here].mean(dim=0) for here in members])
    distance = torch.zeros(len(rows))
    for mean, here in zip(means, members, strict=True):
        distance[here] = (rows[here] - mean).square().sum(dim=1)
    return means, distance


def test_swap_centroids_merges_split_and_splits_joined_blobs() -> None:
    rows = three_heaps()
    members = [torch.arange(0, 20), torch.arange(20, 40), torch.arange(40, 120)]
    means, distance = clustering(rows, members)
    moved = swap_centroids(members, rows, torch.ones(120).double(), means, distance)
    expected, _ = clustering(rows, [torch.arange(i, i + 40) for i in (0, 40, 80)])
    assert torch.cdist(expected, moved).min(dim=1).values.max() < 1e-4


def test_swap_centroids_keeps_a_good_clustering() -> None:
    rows = three_heaps()
    members = [torch.arange(i, i + 40) for i in (0, 40, 80)]
    means, distance = clustering(rows, members)
    moved = swap_centroids(members, rows, torch.ones(120).double(), means, distance)
    assert torch.equal(moved, means)


def test_swap_centroids_weights_equal_copied_rows() -> None:
    rows = three_heaps()
    heavy = torch.ones(120).double()
    heavy[:40] = 3
    copies = torch.cat([rows, rows[:40], rows[:40]])
    members = [torch.arange(0, 20), torch.arange(20, 40), torch.arange(40, 120)]
    twins = [torch.arange(120, 160).view(2, 20), torch.arange(160, 200).view(2, 20)]
    more = [torch.cat([members[i], twins[0][i], twins[1][i]]) for i in (0, 1)] + [members[2]]
    means, distance = clustering(rows, members)
    weighted = swap_centroids(members, rows, heavy, means, distance)
    means, distance = clustering(copies, more)
    copied = swap_centroids(more, copies, torch.ones(200).double(), means, distance)
    torch.testing.assert_close(weighted, copied, rtol=0, atol=1e-4)


def test_swap_centroids_of_one_cluster_changes_nothing() -> None:
    rows = torch.ones(6, 2)
    alone = swap_centroids(
        [torch.arange(6)], rows, torch.ones(6).double(), rows[:1], torch.zeros(6)
    )
    assert torch.equal(alone, rows[:1])
