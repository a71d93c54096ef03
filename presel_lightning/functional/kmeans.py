"""k-means whose labels do not depend on row order or thread count."""

import hashlib
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from presel_lightning.functional.dense_lloyd import DenseLloyd, leading_axes, project, search
from presel_lightning.functional.lloyd import Lloyd
from presel_lightning.functional.seeding import two_levels
from presel_lightning.functional.threads import map_blocks, single_threaded

_SAMPLE = 10  # sampled rows per centroid for the initialization, but at least
_SMALLEST_SAMPLE = 1000
_SKETCH = 25  # sampled rows per centroid for the swaps
_SKETCH_PASSES, _SKETCH_TOL = 20, 1e-3
_ROUNDS = 16  # maximum rounds of swaps;
_WORTH = 0.0005  # they end when one lowers the inertia by less than this fraction
_WIDE = 256  # up to this many centroids a row is first compared with all of them


class KMeans(NamedTuple):
    """Result of `kmeans`."""

    labels: Tensor
    """(N,) int64, each of 0 … C-1 at least once."""
    centroids: Tensor
    """(C, D) float32, the mean of each cluster's rows."""


def kmeans(
    features: Tensor,
    n_clusters: int,
    *,
    seed: int,
    n_iter: int = 30,
    tol: float = 2.5e-4,
    block: int = 1024,
    device: torch.device | str = "cpu",
) -> KMeans:
    r"""Minimize the inertia :math:`\sum_i \lVert x_i - \mu_{l(i)} \rVert^2`.

    1. Two-level k-means++ on a sample.
    2. On a larger sample, rounds of swaps, which move centroids to where they lower the inertia
       most, and one round more on all rows.
    3. Passes over all rows. A row is compared only with the centroids near its own (their number
       follows from how far rows have moved so far) and moves where it lowers the inertia most
       (Hartigan), not to the nearest centroid.

    Where few directions hold most of the variance, as in features of encoders, and clusters are at
    most 256, the search runs over the 128 leading principal components (`leading_axes`) and compares
    each row with every centroid there; passes over all dimensions end it.

    Cost grows about as N for clusters of equal size.

    Equal rows count as one row of higher weight, and rows are sorted by content hash: labels depend
    only on the *set* of rows and the seed. No cluster is empty: one that loses its last row restarts
    at the row that is farthest from its centroid.

    Args:
        features: (N, D) of a float dtype, in memory or memory-mapped. One copy is held, in the
            same dtype, and in addition the centroids and a few blocks of rows in float32 and float64.
        n_clusters: Number of clusters; fewer where fewer distinct rows exist.
        seed: Seed of the initialization.
        n_iter: Maximum number of passes over all rows.
        tol: Stop when a pass lowers the inertia by less than this fraction, for every 16 centroids
            that it compares a row with.
        block: Maximum rows of a matrix product. Labels depend on it, since last bits do.
        device: Device of the passes. Labels may differ between kinds of device, since products
            differ in their last bits; one kind always gives the same labels.

    Returns:
        `KMeans`: labels (N,), centroids (C, D), both on the CPU. Some rows are nearer to another
        centroid, because rows move by inertia and the search stops early.

    Raises:
        ValueError: No rows, no clusters, or a feature that is not finite.

    >>> kmeans(torch.tensor([[0.0], [9.0], [0.1]]), 2, seed=0).labels.unique(return_counts=True)[1]
    tensor([2, 1])
    """
    if features.dim() != 2 or len(features) == 0 or n_clusters < 1:
        raise ValueError(
            f"expected rows (N, D) and at least one cluster, got {tuple(features.shape)} "
            f"and {n_clusters}"
        )
    features, device = features.cpu(), torch.device(device)
    with single_threaded() as threads:
        first, inverse, weight = distinct_rows(features, block, threads)
        k = min(n_clusters, len(first))
        generator = torch.Generator("cpu").manual_seed(seed)
        n_threads = threads if device.type == "cpu" else 1
        sample, stands_for = weighted_sample(weight, max(_SAMPLE * k, _SMALLEST_SAMPLE), generator)
        rows = features[first[sample]].float()
        if k <= _WIDE and (axes := leading_axes(rows)) is not None:
            reduced = project(features, first, axes, block, threads)
            seeds, _ = two_levels(reduced[sample], stands_for, k, generator)
            there = weight.to(device)
            labels = search(reduced.to(device), there, seeds.to(device), block, n_threads)
            dense = DenseLloyd(features[first].to(device), there, block, n_threads, labels=labels)
            dense.passes(n_iter, 4 * tol)
            return KMeans(dense.labels.cpu()[inverse], dense.means().cpu())
        seeds, cells = two_levels(rows, stands_for, k, generator)
        wide = 4 * k // len(cells)
        if k <= _WIDE:
            wide, cells = k, cells[:1]
        start = partial(
            Lloyd.start,
            features.to(device),
            cells=cells.to(device),
            block=block,
            threads=n_threads,
        )
        sample, stands_for = weighted_sample(weight, max(_SKETCH * k, _SMALLEST_SAMPLE), generator)
        lloyd = start(
            place=first[sample].to(device),
            weight=stands_for.to(device),
            centroids=seeds.to(device),
            near=wide,
        )
        before = torch.inf
        for _ in range(_ROUNDS):
            now = lloyd.assign()
            if before - now <= _WORTH * now:
                break
            before = now
            lloyd.swap()
        lloyd.passes(_SKETCH_PASSES, _SKETCH_TOL)
        near = lloyd.near
        lloyd = start(
            place=first.to(device),
            weight=weight.to(device),
            centroids=lloyd.means(),
            near=wide,
        )
        lloyd.near = near
        lloyd.swap()  # the last round, on all rows
        lloyd.assign()
        lloyd.passes(n_iter, tol)
        labels = torch.empty_like(lloyd.labels)
        labels[lloyd.index] = lloyd.labels
        return KMeans(labels.cpu()[inverse], lloyd.means().cpu())


def weighted_sample(weight: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sample at most n rows by weight without replacement, with the weight each represents.

    >>> weight = torch.tensor([1.0, 0.0, 3.0], dtype=torch.float64)
    >>> rows, counts = weighted_sample(weight, 2, torch.Generator().manual_seed(0))
    >>> rows.sort().values, counts.sort().values
    (tensor([0, 2]), tensor([2., 3.], dtype=torch.float64))
    """
    if n >= len(weight):
        return torch.arange(len(weight), device="cpu"), weight
    race = torch.rand(len(weight), generator=generator, dtype=torch.float64, device="cpu")
    sample = (race.log() / weight).argsort(descending=True, stable=True)[:n]
    return sample, weight[sample].clamp(min=float(weight.sum()) / n)


def distinct_rows(features: Tensor, block: int, threads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Find the distinct rows, sorted by content hash.

    Returns:
        (U,) first row of each, (N,) inverse indices, (U,) number of occurrences.

    Raises:
        ValueError: A feature is not finite.

    >>> distinct_rows(torch.tensor([[1.0], [2.0], [1.0]]), block=2, threads=1)[2].sort().values
    tensor([1., 2.], dtype=torch.float64)
    """

    def digests(start: int, stop: int) -> bytes:
        rows = features[start:stop].float() + 0.0  # -0.0 is 0.0
        if not torch.stack(rows.aminmax()).isfinite().all():
            raise ValueError(f"features of rows {start} to {stop - 1} are not all finite")
        return b"".join(hashlib.sha256(row).digest()[:16] for row in rows.numpy())

    digest = b"".join(map_blocks(digests, len(features), block, threads))
    _, first, inverse, counts = np.unique(
        np.frombuffer(digest, dtype="S16"),
        return_index=True,
        return_inverse=True,
        return_counts=True,
    )
    return torch.from_numpy(first), torch.from_numpy(inverse), torch.from_numpy(counts).double()
