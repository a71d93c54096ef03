"""Clusters of a large table: task by task, part by part, by any executor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from presel_lightning.cli.main import main
from presel_lightning.functional import kmeans
from presel_lightning.selectors.clustering import FineStage
from tests.local_ray import local_ray

TASKS = np.array(["a"] * 90 + ["b"] * 40 + ["a"] * 30)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 rows in twelve heaps of directions."""
    folder = tmp_path_factory.mktemp("features")
    rng = np.random.default_rng(0)
    heaps = rng.normal(size=(12, 8))
    rows = heaps[rng.integers(0, 12, len(TASKS))] + rng.normal(0, 0.05, (len(TASKS), 8))
    np.save(folder / "f.npy", rows.astype(np.float32))
    (folder / "tasks.txt").write_text("\n".join(TASKS) + "\n")
    return folder


def words(folder: Path, out: Path, *more: str) -> list[str]:
    given = ["--features", str(folder / "f.npy"), "--tasks", str(folder / "tasks.txt")]
    return ["cluster", *given, "--output", str(out), "--rows_per_cluster", "10", *more]


@pytest.fixture(scope="module")
def expected(table: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    out = tmp_path_factory.mktemp("expected") / "c.npy"
    assert main(words(table, out, "--part", "50")) == 0
    assert not out.with_name("c.npy.work").exists()
    return out.read_bytes()


def test_small_tasks_have_the_clusters_of_k_means(table: Path, tmp_path: Path) -> None:
    assert main(words(table, tmp_path / "c.npy")) == 0
    found = np.load(tmp_path / "c.npy")
    rows = torch.nn.functional.normalize(torch.from_numpy(np.load(table / "f.npy")), dim=1)
    first = 0
    for task in "ab":
        own = TASKS == task
        labels = kmeans(rows[own], own.sum() // 10, seed=0).labels.numpy()
        assert np.array_equal(found[own], first + labels)
        first += labels.max() + 1


def test_large_tasks_are_divided_into_parts(table: Path, expected: bytes, tmp_path: Path) -> None:
    """No cluster has rows of two tasks, and clusters are as tight as those of whole tasks."""
    (tmp_path / "c.npy").write_bytes(expected)
    found = np.load(tmp_path / "c.npy")
    assert np.array_equal(np.unique(found), np.arange(found.max() + 1))
    assert all(len(set(TASKS[found == label])) == 1 for label in range(found.max() + 1))
    rows = torch.nn.functional.normalize(torch.from_numpy(np.load(table / "f.npy")), dim=1)
    for task in "ab":
        own = TASKS == task
        labels = np.unique(found[own], return_inverse=True)[1]
        whole = kmeans(rows[own], labels.max() + 1, seed=0).labels.numpy()
        assert inertia(rows[own].numpy(), labels) < 1.5 * inertia(rows[own].numpy(), whole)


def inertia(rows: np.ndarray, labels: np.ndarray) -> float:
    heaps = [rows[labels == label] for label in range(labels.max() + 1)]
    return float(sum(((heap - heap.mean(0)) ** 2).sum() for heap in heaps))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_killed_and_continued_by_other_workers(
    table: Path, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    whole = FineStage.__call__
    done: list[int] = []

    def until_third(self: FineStage, number: int) -> None:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(number)
        whole(self, number)

    out = tmp_path / "c.npy"
    with monkeypatch.context() as patch:
        patch.setattr(FineStage, "__call__", until_third)
        assert main(words(table, out, "--part", "50")) == 130
    assert not out.exists()
    assert main(words(table, out, "--part", "50", "--workers", workers)) == 0
    assert out.read_bytes() == expected


@pytest.mark.slow
def test_ray_gives_the_same_clusters(
    table: Path, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "c.npy"
    with local_ray(monkeypatch):
        assert main(words(table, out, "--part", "50", "--executor", "ray", "--workers", "2")) == 0
    assert out.read_bytes() == expected


def test_cluster_refuses_tasks_of_another_length(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.txt").write_text("a\n")
    given = words(table, tmp_path / "c.npy")
    given[4] = str(tmp_path / "t.txt")
    assert main(given) == 2
    assert "--tasks 1 rows" in capsys.readouterr().err
