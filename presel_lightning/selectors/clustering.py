"""Clusters of each task of a large table of features, a task or a part of one at a time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import fsspec
import numpy as np
import torch
from filelock import FileLock
from torch import Tensor
from torch.nn.functional import normalize

from presel_lightning.functional import kmeans
from presel_lightning.functional.threads import single_threaded
from presel_lightning.run.executors import Executor, complete, one_at_a_time
from presel_lightning.run.files import make_folder, replacing
from presel_lightning.run.fingerprint import fingerprint
from presel_lightning.run.units import Stage, state_of

PART = 100_000
"""Rows of a task from which on it is divided first, and of a part on average."""
SAMPLE = 50
"""Rows of the sample that the parts are made from, for each part."""
BLOCK = 4096
"""Rows that are compared with the parts at a time."""


@dataclass(frozen=True)
class ClusterStage(Stage):
    """Labels of the rows of each group of a table.

    Args:
        folder: of the manifests, and of `order.npy`: row numbers, a group behind the other.
        key: what else defines the result.
        features: `.npy` (N, D).
        bounds: where each group begins in the order, and the end.
        seed: of the clustering.
    """

    features: Path
    bounds: tuple[int, ...]
    seed: int

    def defined_by(self, number: int) -> object:
        """All is in the key."""
        return number

    def __call__(self, number: int) -> None:
        """Cluster the L2-normalised rows of a group."""
        table, rows = np.load(self.features, mmap_mode="r"), self.rows(number)
        labels = self.labels(
            normalize(torch.from_numpy(np.asarray(table[rows], np.float32)), dim=1)
        )
        self.save(number, "labels", labels.numpy())
        self.finish(number, {"clusters": int(labels.max()) + 1})

    def rows(self, number: int) -> np.ndarray:
        """Row numbers of a group, ascending."""
        order = np.load(self.folder / "order.npy", mmap_mode="r")
        return np.array(order[self.bounds[number] : self.bounds[number + 1]])

    @abstractmethod
    def labels(self, rows: Tensor) -> Tensor:
        """Number of the cluster of each row (n, D) of a group."""


@dataclass(frozen=True)
class PartStage(ClusterStage):
    """Parts of each task, of about `part` rows: the nearest centroid of a sample's k-means."""

    part: int

    def labels(self, rows: Tensor) -> Tensor:
        """All rows of a small task are one part."""
        n = -(-len(rows) // self.part)
        if n == 1:
            return torch.zeros(len(rows), dtype=torch.int64)
        generator = torch.Generator().manual_seed(self.seed)
        sample = torch.randperm(len(rows), generator=generator)[: n * SAMPLE]
        centroids = kmeans(rows[sample], n, seed=self.seed).centroids  # (n, D)
        half = centroids.square().sum(1) / 2
        with single_threaded():
            return torch.cat([(b @ centroids.T - half).argmax(1) for b in rows.split(BLOCK)])


@dataclass(frozen=True)
class FineStage(ClusterStage):
    """Clusters of each part, one for every `rows_per_cluster` of its rows."""

    rows_per_cluster: int

    def labels(self, rows: Tensor) -> Tensor:
        """k-means."""
        return kmeans(rows, max(1, len(rows) // self.rows_per_cluster), seed=self.seed).labels


def cluster(
    features: Path,
    tasks: Sequence[str] | np.ndarray | None = None,
    *,
    work: Path,
    rows_per_cluster: int = 100,
    part: int = PART,
    seed: int = 0,
    executor: Executor = "local",
    workers: int = 1,
) -> np.ndarray:
    """Cluster each task of a table by k-means; a large task is divided into parts first.

    A task of n rows has about n / rows_per_cluster clusters. One of more than `part` rows is divided
    by the centroids of a k-means on a sample, and its parts are clustered each by itself: that costs
    n * (n / part + part / rows_per_cluster) products of vectors a pass instead of
    n * n / rows_per_cluster. The result depends neither on the executor nor on the number of workers.

    Args:
        features: `.npy` (N, D) of floats; rows are L2-normalised.
        tasks: (N,) task of each row; None is one task.
        work: folder of what is done; it goes at the end, but for an array's.
        rows_per_cluster: of the clusters, on average.
        part: rows from which on a task is divided.
        seed: of the clustering.
        executor: who does the tasks and parts.
        workers: at a time.

    Returns:
        (N,) int64, numbers of the clusters; those of a task follow each other.
    """
    n = len(np.load(features, mmap_mode="r"))
    names = np.zeros(n, "U1") if tasks is None else np.asarray(tasks).astype(str)
    codes = np.unique(names, return_inverse=True)[1]
    state = state_of(fsspec.filesystem("file"), str(features))
    key = fingerprint([1, state, codes.tolist(), part, rows_per_cluster, seed])
    with one_at_a_time(work, executor):
        place = work / f"parts-{key}"
        parts = PartStage(place, key, features, _bounds(codes), seed, part)
        finer = _labels(parts, codes, executor, workers, "tasks divided")
        place = work / f"clusters-{key}"
        fine = FineStage(place, key, features, _bounds(finer), seed, rows_per_cluster)
        found = _labels(fine, finer, executor, workers, "parts clustered")
    return found


def _bounds(codes: np.ndarray) -> tuple[int, ...]:
    """Where the rows of each number begin once they are sorted, and the end."""
    return (0, *np.cumsum(np.bincount(codes)).tolist())


def _labels(
    stage: ClusterStage, codes: np.ndarray, executor: Executor, workers: int, what: str
) -> np.ndarray:
    """Do all groups, and number what they were divided into one behind the other."""
    order = stage.folder / "order.npy"
    make_folder(stage.folder)
    with FileLock(stage.folder / ".order"):  # tasks of an array share it
        if not order.is_file():
            with replacing(order) as path, path.open("wb") as file:
                np.save(file, np.argsort(codes, kind="stable"))
    numbers = range(len(stage.bounds) - 1)
    complete(stage, numbers, executor, workers, what)
    found, first = np.empty(len(codes), np.int64), 0
    for number in numbers:
        found[stage.rows(number)] = first + stage.mapped(number, "labels")
        first += stage.read(number)["clusters"]
    return np.unique(found, return_inverse=True)[1]  # a part that nothing is nearest to
