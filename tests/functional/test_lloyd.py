import torch
from torch import Tensor

from presel_lightning.functional.lloyd import Lloyd


def problem() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(500, 6, generator=generator)
    return rows, torch.randint(1, 4, (500,), generator=generator).double()


def literal_pass(rows: Tensor, weight: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Every row to its nearest centroid, every centroid to the mean of its rows."""
    labels = torch.cdist(rows, centroids).argmin(dim=1)
    means = [
        (weight[labels == c, None] * rows[labels == c]).sum(dim=0) / weight[labels == c].sum()
        for c in range(len(centroids))
    ]
    return labels, torch.stack(means).float()


def test_passes_that_see_every_centroid_are_those_of_lloyd() -> None:
    rows, weight = problem()
    place, expected = torch.randperm(500), rows[:20]
    lloyd = Lloyd.start(rows, place, weight[place], rows[20:23], expected, block=64, threads=1)
    for step in range(4):
        lloyd.assign(near=20)
        labels, expected = literal_pass(rows, weight, expected)
        found = torch.empty_like(labels)
        found[place[lloyd.index]] = lloyd.labels
        assert torch.equal(found, labels)
        torch.testing.assert_close(lloyd.centroids, expected, rtol=0, atol=1e-5)
        if step == 1:
            lloyd.regroup()
            assert (lloyd.labels.diff() >= 0).all()


def test_a_lost_cluster_starts_again_at_the_farthest_row() -> None:
    rows = torch.tensor([[0.0], [1.0], [2.0], [30.0]])
    seeds = torch.tensor([[1.0], [1000.0]])
    lloyd = Lloyd.start(
        rows, torch.arange(4), torch.ones(4).double(), rows[:1], seeds, block=8, threads=1
    )
    lloyd.assign(near=2)
    assert lloyd.labels.tolist() == [0, 0, 0, 1]
    assert lloyd.centroids.tolist() == [[1.0], [30.0]]
    assert lloyd.distance.tolist() == [1, 0, 1, 0]


def test_passes_stop_when_they_no_longer_gain() -> None:
    rows, weight = problem()
    lloyd = Lloyd.start(rows, torch.arange(500), weight, rows[:1], rows[:9], block=64, threads=1)
    lloyd.passes(1000, near=9, tol=0.0)
    settled = lloyd.labels.clone()
    lloyd.assign(near=9)
    assert torch.equal(lloyd.labels, settled)
