"""Clusters of a task's images, the same whatever the order of the rows or the thread count."""

import hashlib
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from presel_lightning.functional.lloyd import Lloyd
from presel_lightning.functional.seeding import two_levels
from presel_lightning.functional.threads import map_blocks, single_threaded

_SAMPLE = 10  # rows a centroid that the seeding looks at, but
_SMALLEST_SAMPLE = 1000
_SKETCH = 25  # rows a centroid that the swaps look at
_SKETCH_PASSES, _SKETCH_TOL = 20, 1e-3
_ROUNDS = 16  # most rounds of swaps;
_WORTH = 0.0005  # they end when one lowers the sum by less than this part of it
_WIDE = 256  # up to this many centroids a row is compared with all of them at first


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
    r"""Cluster rows so that :math:`\sum_i \lVert x_i - \mu_{l(i)} \rVert^2` is small.

    Two-level k-means++ on a sample; on a larger one, rounds of swaps, which move centroids to where
    they lower the sum most, and one more on all rows; then passes over these in which a row is
    compared with the centroids near its own only, as many as rows have lately been seen to move
    among, and goes where it lowers the sum most (Hartigan) rather than to the nearest. Cost grows
    about as N for clusters of equal size.

    Equal rows count as one row of higher weight, and rows are taken in the order of a digest of
    their values: labels depend on the *set* of rows and the seed alone. No cluster is ever empty:
    one that loses its last row starts again at the row that is farthest from its centroid.

    Args:
        features: (N, D) of a float dtype, in memory or memory-mapped. One copy is held, in the
            same dtype; beside it the centroids and a few blocks of rows in float32 and float64.
        n_clusters: Clusters wanted. There are fewer where fewer distinct rows exist.
        seed: Of the seeding.
        n_iter: Most passes over all rows.
        tol: Stop these when one lowers the sum by less than this part of it, for every 16
            centroids that it compares a row with.
        block: Most rows of a matrix product. Part of the result's identity, since last bits
            depend on it.
        device: Where the passes are done. Another kind of device may end in other labels, since
            its products differ in their last bits; one kind always gives the same.

    Returns:
        `KMeans`: labels (N,), centroids (C, D), both on the CPU. As rows go where the sum falls
        most, and the search stops early, some are nearer to another centroid.

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
        sample, stands_for = draw(weight, max(_SAMPLE * k, _SMALLEST_SAMPLE), generator)
        seeds, cells = two_levels(features[first[sample]].float(), stands_for, k, generator)
        wide = 4 * k // len(cells)
        if k <= _WIDE:
            wide, cells = k, cells[:1]
        start = partial(
            Lloyd.start,
            features.to(device),
            cells=cells.to(device),
            block=block,
            threads=threads if device.type == "cpu" else 1,
        )
        sample, stands_for = draw(weight, max(_SKETCH * k, _SMALLEST_SAMPLE), generator)
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
        lloyd.swap()  # a last round, which sees all rows
        lloyd.assign()
        lloyd.passes(n_iter, tol)
        labels = torch.empty_like(lloyd.labels)
        labels[lloyd.index] = lloyd.labels
        return KMeans(labels.cpu()[inverse], lloyd.means().cpu())


def draw(weight: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """At most n rows, heavy ones more likely, none twice; and the weight that each stands for.

    >>> weight = torch.tensor([1.0, 0.0, 3.0], dtype=torch.float64)
    >>> rows, counts = draw(weight, 2, torch.Generator().manual_seed(0))
    >>> rows.sort().values, counts.sort().values
    (tensor([0, 2]), tensor([2., 3.], dtype=torch.float64))
    """
    if n >= len(weight):
        return torch.arange(len(weight), device="cpu"), weight
    race = torch.rand(len(weight), generator=generator, dtype=torch.float64, device="cpu")
    sample = (race.log() / weight).argsort(descending=True, stable=True)[:n]
    return sample, weight[sample].clamp(min=float(weight.sum()) / n)


def distinct_rows(features: Tensor, block: int, threads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows that differ, in the order of a digest of their values.

    Returns:
        (U,) where each first occurs, (N,) which of them each row is, (U,) how often each occurs.

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
