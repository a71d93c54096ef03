"""Neighbor Centrality of an image in its cluster."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

# rows and columns of one similarity block; memory is bounded by them, whatever the cluster's size
_ROWS, _COLUMNS = 1024, 2048


def neighbor_centrality(features: Tensor, labels: Tensor, k: int = 5) -> Tensor:
    r"""Compute each row's mean cosine similarity to its nearest neighbors in its own cluster.

    .. math:: \mathrm{NC}(i) = \frac{1}{k'} \sum_{j \in \mathrm{kNN}(i)} \cos(v_i, v_j),
        \quad k' = \min(k, n_c - 1)

    over the *other* members of the cluster (an exact duplicate is another member). Exact, and in
    float64, so that block size and thread count change the result by less than 1e-14.

    Args:
        features: (N, D), any float dtype, on any device; rows need not be normalized, a zero row
            has similarity 0 to every row.
        labels: (N,) cluster of each row, on the same device; any integers.
        k: Number of neighbors.

    Returns:
        (N,) float64 in [-1, 1], on that device; 0 for the only member of a cluster.

    Raises:
        ValueError: ``k`` is below 1, or the two differ in length.

    Source: PreSel Eq. 7.

    >>> neighbor_centrality(torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0, 1]))
    tensor([1., 1., 0.], dtype=torch.float64)
    """
    if k < 1 or len(features) != len(labels):
        raise ValueError(
            f"expected k >= 1 and one label a row, got k={k}, {len(features)} rows and "
            f"{len(labels)} labels"
        )
    result = torch.zeros(len(labels), dtype=torch.float64, device=features.device)
    for members in members_by_label(labels):
        result[members] = nearest_similarity(features[members], k)
    return result


def members_by_label(labels: Tensor) -> list[Tensor]:
    """Return the row numbers of each label that occurs, labels and rows ascending.

    >>> members_by_label(torch.tensor([4, 0, 4]))
    [tensor([1]), tensor([0, 2])]
    """
    order = torch.argsort(labels, stable=True)
    counts = torch.unique_consecutive(labels[order], return_counts=True)[1]
    return list(torch.split(order, counts.tolist()))


def nearest_similarity(features: Tensor, k: int) -> Tensor:
    """Compute `neighbor_centrality` of the rows (n, D) of one cluster.

    >>> nearest_similarity(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), k=1)
    tensor([1., 1., 0.], dtype=torch.float64)
    """
    if len(features) == 1:
        return torch.zeros(1, dtype=torch.float64, device=features.device)
    k = min(k, len(features) - 1)
    starts = range(0, len(features), _ROWS)
    return torch.cat([_mean_nearest(features, start, k) for start in starts])


def _mean_nearest(features: Tensor, start: int, k: int) -> Tensor:
    """NC of the rows from ``start`` on, one block of them."""
    rows = _unit(features[start : start + _ROWS])  # (B, D)
    nearest = []
    for first in range(0, len(features), _COLUMNS):
        alone = len(rows) == len(features)
        columns = rows if alone else _unit(features[first : first + _COLUMNS])
        similarity = rows @ columns.T  # (B, columns)
        similarity.diagonal(start - first).fill_(-torch.inf)  # a row is no neighbor of itself
        nearest.append(similarity.topk(min(k, similarity.shape[1]), dim=1).values)
    return torch.cat(nearest, dim=1).topk(k, dim=1).values.mean(dim=1)


def _unit(rows: Tensor) -> Tensor:
    """Rows of length 1, or 0, in float64."""
    vectors = rows.to(torch.float64, copy=True)
    return normalize(vectors, dim=1, out=vectors)
