import pytest
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


def start(rows: Tensor, weight: Tensor, seeds: Tensor, cells: int = 3, near: int = 99) -> Lloyd:
    place = torch.randperm(len(rows))
    return Lloyd.start(rows, place, weight[place], rows[:cells], seeds, near, block=64, threads=1)


def in_order(lloyd: Lloyd, place: Tensor, values: Tensor) -> Tensor:
    result = torch.empty_like(values)
    result[place[lloyd.index]] = values
    return result


def sum_of(rows: Tensor, weight: Tensor, labels: Tensor) -> float:
    """Of squared distances to the means of the labels."""
    total = 0.0
    for label in labels.unique():
        here, mass = rows[labels == label].double(), weight[labels == label]
        total += float(mass @ (here - mass @ here / mass.sum()).square().sum(dim=1))
    return total


def test_lloyd_passes_over_all_centroids_match_literal_passes() -> None:
    rows, weight = problem()
    place = torch.randperm(500)
    labels, expected = literal_pass(rows, weight, rows[:20])
    lloyd = Lloyd.start(
        rows, place, weight[place], rows[20:23], rows[:20], near=20, block=64, threads=1
    )
    for _ in range(4):
        assert torch.equal(in_order(lloyd, place, lloyd.labels), labels)
        torch.testing.assert_close(lloyd.centroids, expected, rtol=0, atol=1e-5)
        lloyd.near = 20
        found = lloyd.assign()
        labels, expected = literal_pass(rows, weight, expected)
        assert found == pytest.approx(sum_of(rows, weight, labels), rel=1e-5)


def test_lloyd_empty_cluster_restarts_at_the_farthest_row() -> None:
    rows = torch.tensor([[0.0], [1.0], [2.0], [30.0]])
    lloyd = start(rows, torch.ones(4).double(), torch.tensor([[1.0], [1000.0]]), cells=1)
    assert lloyd.rows[:, 0].tolist() == [0, 1, 2, 30] or lloyd.labels.tolist() == [0, 0, 0, 1]
    assert lloyd.centroids.tolist() == [[1.0], [30.0]]
    assert sorted(lloyd.distance.tolist()) == [0, 0, 1, 1]


def test_lloyd_improve_lowers_inertia_beyond_convergence() -> None:
    rows = torch.randn(600, 200, generator=torch.Generator().manual_seed(0))
    weight = torch.ones(600).double()
    lloyd = start(rows, weight, rows[:20])
    before = torch.inf
    while (now := lloyd.assign()) < before:
        before = now
    lloyd.passes(20, tol=0.0)
    assert sum_of(lloyd.rows, weight, lloyd.labels) < 0.99 * before


def test_lloyd_passes_stop_without_improvement() -> None:
    rows, weight = problem()
    lloyd = start(rows, weight, rows[:9])
    calls = []
    improve = lloyd.improve
    lloyd.improve = lambda: calls.append(improve()) or calls[-1]  # type: ignore[method-assign,func-returns-value]
    lloyd.passes(1000, tol=0.0)
    assert len(calls) < 1000 and calls[-1] >= calls[-2]
