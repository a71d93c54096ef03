"""k-means of the faiss library, for comparison with published results; `kmeans` needs no faiss."""

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from presel_lightning.errors import UserError
from presel_lightning.functional.kmeans import KMeans, distinct_rows
from presel_lightning.functional.lloyd import reseat
from presel_lightning.functional.threads import single_threaded

_BLOCK = 1024


def require_faiss() -> None:
    """Check that faiss is installed, before any stage runs.

    Raises:
        UserError: faiss is not installed.
    """
    if find_spec("faiss") is None:
        raise UserError(
            "backend: faiss needs the faiss library; pip install 'presel-lightning[faiss]', or "
            "leave selector.init_args.backend at torch"
        )


def faiss_kmeans(features: Tensor, n_clusters: int, *, seed: int, n_iter: int = 25) -> KMeans:
    r"""Minimize :math:`\sum_i \lVert x_i - \mu_{l(i)} \rVert^2` by k-means of faiss.

    Random initialization and `n_iter` Lloyd iterations over all rows. As in `kmeans`, equal rows
    count as one row of higher weight, rows are sorted by content hash, and an empty cluster gets
    the row that is farthest from its centroid; so labels depend only on the set of rows and the
    seed. faiss runs on one thread, because its sums depend on the number of threads.

    Args:
        features: (N, D) of a float dtype, in memory or memory-mapped; two copies are held, in
            float32.
        n_clusters: Number of clusters; fewer where fewer distinct rows exist.
        seed: Seed of the initialization.
        n_iter: Lloyd iterations.

    Returns:
        `KMeans`: labels (N,), centroids (C, D). Another build of faiss may give other labels.

    Raises:
        UserError: faiss is not installed.
        ValueError: No rows, no clusters, or a feature that is not finite.

    >>> faiss_kmeans(torch.tensor([[0.0], [9.0], [0.1]]), 2, seed=0).labels.bincount().sort().values
    tensor([1, 2])
    """
    require_faiss()
    import faiss

    if features.dim() != 2 or len(features) == 0 or n_clusters < 1:
        raise ValueError(
            f"expected rows (N, D) and at least one cluster, got {tuple(features.shape)} "
            f"and {n_clusters}"
        )
    features = features.cpu()
    with single_threaded() as threads:
        first, inverse, weight = distinct_rows(features, _BLOCK, threads)
    rows = features[first].float().contiguous()  # (U, D)
    k = min(n_clusters, len(rows))
    outside = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        distance, labels = _fit(faiss, rows, weight, k, n_iter, seed)
    finally:
        faiss.omp_set_num_threads(outside)
    reseat(labels, distance, k)
    return KMeans(labels[inverse], _means(rows, weight, labels, k))


def _fit(
    faiss: Any,  # noqa: ANN401 - a module without types
    rows: Tensor,
    weight: Tensor,
    k: int,
    n_iter: int,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """Return the squared distance to, and the index of, each row's centroid: (U,) each."""
    model = faiss.Kmeans(
        rows.shape[1],
        k,
        niter=n_iter,
        seed=seed % 2**31,
        min_points_per_centroid=1,
        max_points_per_centroid=len(rows),
    )
    model.train(rows.numpy(), weights=weight.float().numpy())
    distance, labels = model.index.search(rows.numpy(), 1)
    return torch.from_numpy(distance)[:, 0], torch.from_numpy(labels)[:, 0]


def _means(rows: Tensor, weight: Tensor, labels: Tensor, k: int) -> Tensor:
    """Compute the weighted mean of each cluster, (C, D) float32, summed in float64."""
    sums = weight.new_zeros(k, rows.shape[1])
    for part in torch.arange(len(rows)).split(_BLOCK):
        sums.index_add_(0, labels[part], rows[part].double() * weight[part, None])
    mass = weight.new_zeros(k).index_add_(0, labels, weight)
    return (sums / mass[:, None]).float()
