"""Merge and split clusters where that lowers the inertia."""

from collections.abc import Sequence

import torch
from torch import Tensor

from presel_lightning.functional.seeding import squared_distances

_SPLIT_PART = 3  # one in this many clusters, those of largest inertia, is tried
_BISECTIONS = 3
_BLOCK = 1024


def swap_centroids(
    members: Sequence[Tensor],
    rows: Tensor,
    weight: Tensor,
    centroids: Tensor,
    distance: Tensor,
) -> Tensor:
    r"""Merge pairs of near clusters and split loose ones, where the split gains more.

    Merging a and b costs :math:`\frac{m_a m_b}{m_a + m_b} \lVert \mu_a - \mu_b \rVert^2`, and
    splitting a cluster gains the same of its halves. The splits of largest gain are matched with
    the merges of least cost, each cluster in at most one of them, while the gain exceeds the cost.
    Lloyd iterations cannot make these moves, so they correct a fast initialization.

    Args:
        members: Row numbers of each of the C clusters.
        rows: (U, D) of a float dtype.
        weight: (U,) float64 weight of each row.
        centroids: (C, D) float32, means of the clusters.
        distance: (U,) squared distance of each row to its centroid.

    Returns:
        (C, D) float32 centroids.

    >>> rows = torch.tensor([[0.0], [0.1], [8.0], [9.0]])
    >>> members = [torch.tensor([0]), torch.tensor([1]), torch.tensor([2, 3])]
    >>> middles = torch.tensor([[0.0], [0.1], [8.5]])
    >>> distance = torch.tensor([0.0, 0.0, 0.25, 0.25])
    >>> swap_centroids(members, rows, torch.ones(4).double(), middles, distance)
    tensor([[0.0500],
            [8.0000],
            [9.0000]])
    """
    mass = torch.stack([weight[here].sum() for here in members])  # (C,)
    spread = torch.stack([distance[here].double() @ weight[here] for here in members])
    loosest = spread.argsort(descending=True, stable=True)[: max(1, len(members) // _SPLIT_PART)]
    splits = []
    for cluster in loosest.tolist():
        here = members[cluster]
        centered = rows[here].float() - centroids[cluster]
        splits.append((cluster, *_bisect(centered, weight[here], distance[here])))
    cost, partner = _merge_costs(centroids, mass)
    with_whom, price = partner.tolist(), cost.tolist()
    merges = ((a, with_whom[a]) for a in cost.argsort(stable=True).tolist())
    result, busy = centroids.clone(), set[int]()
    for cluster, gain, plus, minus in sorted(splits, key=lambda split: -split[1]):
        if cluster in busy:
            continue
        busy.add(cluster)
        pair = next((pair for pair in merges if busy.isdisjoint(pair)), None)
        if pair is None or gain <= price[pair[0]]:
            break
        share = mass[list(pair)].float() / mass[list(pair)].sum()
        result[pair[0]] = share @ centroids[list(pair)]
        result[pair[1]] = centroids[cluster] + plus
        result[cluster] = centroids[cluster] + minus
        busy.update(pair)
    return result


def _merge_costs(centroids: Tensor, mass: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least merge cost of each cluster, and its partner: (C,) each."""
    norms = centroids.square().sum(dim=1)
    costs, partners = [], []
    for start in range(0, len(centroids), _BLOCK):
        part = slice(start, start + _BLOCK)
        apart = squared_distances(centroids[part], centroids).add_(norms[part, None])
        harmonic = mass[part, None] * mass / (mass[part, None] + mass)
        pairs = apart.clamp_(min=0) * harmonic
        pairs.diagonal(start).fill_(torch.inf)
        cost, partner = pairs.min(dim=1)
        costs.append(cost)
        partners.append(partner)
    return torch.cat(costs), torch.cat(partners)


def _bisect(rows: Tensor, weight: Tensor, distance: Tensor) -> tuple[float, Tensor, Tensor]:
    """Split centered rows by two-means along an axis; return the gain and the two means."""
    axis, threshold = rows[distance.argmax()], 0.0
    share, mass = weight.float(), float(weight.sum())
    plus = minus = torch.zeros_like(axis)
    gain = 0.0
    for _ in range(_BISECTIONS):
        side = share * (rows @ axis > threshold)
        heavy = float(side.sum())
        if not 0 < heavy < mass:
            break
        plus = side @ rows / heavy
        minus = plus * (-heavy / (mass - heavy))  # the rows sum to zero
        axis = plus - minus
        threshold = float((plus + minus) @ axis) / 2
        gain = heavy * (mass - heavy) / mass * float(axis @ axis)
    return gain, plus, minus
