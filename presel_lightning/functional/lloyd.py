"""Lloyd passes in which a row is compared only with the centroids near its own."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from presel_lightning.functional.seeding import squared_distances
from presel_lightning.functional.swaps import swap_centroids
from presel_lightning.functional.threads import map_blocks

_NARROW = 16  # minimum number of centroids that a row is compared with
_REACH = 0.8  # quantile of the ranks that rows moved by; the next pass compares with twice as many
_PULL = 0.6  # fraction of Hartigan's correction that is applied, as near rows move together
_STRIDE = 0.5  # over-relaxation of the centroid step
_PIECES = 16  # pieces that one thread takes at a time
_ALONE = 1e-9  # replaces the mass 0 of a cluster without its only row

Piece = tuple[int, int, int]  # start, stop, group: neighboring rows of one group
Cost = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Cost of assigning rows (n,) to centroids (n, near) at the distances (n, near)."""


@dataclass
class Lloyd:
    """State of a clustering, on one device. Row numbers are those of `rows`."""

    rows: Tensor  # (U, D) of a float dtype, sorted by their first labels
    index: Tensor  # (U,) original row number of each row
    weight: Tensor  # (U,) float64 weight of each row
    norms: Tensor  # (U,) float32, squared
    labels: Tensor  # (U,) int64
    distance: Tensor  # (U,) float32, squared, to the centroid of the row's label
    centroids: Tensor  # (C, D) float32: what rows are compared with
    sums: Tensor  # (C, D) float64, of the labels
    mass: Tensor  # (C,) float64
    near: int  # centroids that a row is compared with
    block: int
    threads: int

    @classmethod
    def start(
        cls,
        features: Tensor,
        place: Tensor,
        weight: Tensor,
        cells: Tensor,
        centroids: Tensor,
        near: int,
        block: int,
        threads: int,
    ) -> "Lloyd":
        """Copy the rows at ``place``, cluster by cluster.

        Each row is assigned to the nearest of the ``near`` centroids next to its cell.
        """
        k = len(centroids)

        def cell_of(start: int, stop: int) -> Tensor:
            return squared_distances(features[place[start:stop]].float(), cells).argmin(dim=1)

        def nearest(first: int, last: int) -> list[tuple[Tensor, ...]]:
            results: list[tuple[Tensor, ...]] = []
            for start, stop, group in pieces[first:last]:
                rows, here = features[place[order[start:stop]]].float(), candidates[group]
                distance, label = squared_distances(rows, centroids[here]).min(dim=1)
                norms = rows.square().sum(dim=1)
                results.append((here[label], norms, distance.add_(norms).clamp_(min=0)))
            return results

        cell = torch.zeros_like(place)
        if len(cells) > 1:
            cell = torch.cat(map_blocks(cell_of, len(place), block, threads))
        order, pieces = _by_group(cell, len(cells), block)
        candidates = _next_to(cells, centroids, min(near, k), block)
        blocks = map_blocks(nearest, len(pieces), 1, threads)
        found = [result for block in blocks for result in block]
        labels, norms, distance = (torch.cat(parts) for parts in zip(*found, strict=True))
        reseat(labels, distance, k)
        by_label, pieces = _by_group(labels, k, block)
        index = order[by_label]
        rows, weight, labels = features[place[index]], weight[index], labels[by_label]
        mass = weight.new_zeros(k).index_put_((labels,), weight, accumulate=True)
        sums = weight.new_zeros(centroids.shape)
        for start, stop, group in pieces:
            sums[group] += weight[start:stop] @ rows[start:stop].double()
        return cls(
            rows=rows,
            index=index,
            weight=weight,
            norms=norms[by_label],
            labels=labels,
            distance=distance[by_label],
            centroids=(sums / mass[:, None]).float(),
            sums=sums,
            mass=mass,
            near=near,
            block=block,
            threads=threads,
        )

    def means(self) -> Tensor:
        """Compute the mean of each label's rows, (C, D) float32."""
        return (self.sums / self.mass[:, None]).float()

    def passes(self, n: int, tol: float) -> None:
        """Run `improve` up to ``n`` times; stop when a pass gains less than ``tol`` per width."""
        before = torch.inf
        for _ in range(n):
            width = min(self.near, len(self.centroids)) / _NARROW
            now = self.improve()
            if before - now <= tol * now * width:
                return
            before = now

    def assign(self) -> float:
        """Assign each row to the nearest of its near centroids, and update the centroids.

        Returns:
            The inertia, the sum of squared distances to the means.
        """
        return self._pass(lambda rows, here, distance: distance)

    def improve(self) -> float:
        r"""Assign each row to the near centroid of least cost, and over-relax the centroids.

        A row of weight w that joins a cluster of mass m shifts its mean and adds
        :math:`\frac{m}{m + w} w d^2` to the inertia; one that leaves removes
        :math:`\frac{m}{m - w} w d^2`. So a move can lower the inertia although the row's own
        mean, which the row itself has shifted, is the nearest.

        Returns:
            The inertia, the sum of squared distances to the means.

        Source: Hartigan 1975, Clustering algorithms; here with all rows at a time.
        """
        mass, before = self.mass.float(), self.centroids

        def cost(rows: Tensor, here: Tensor, distance: Tensor) -> Tensor:
            share = self.weight[rows, None].float() / mass[here]
            sign = torch.where(here == self.labels[rows, None], -_PULL, _PULL)
            return distance / share.mul_(sign).add_(1).clamp_(min=_ALONE)

        total = self._pass(cost)
        self.centroids = torch.lerp(before, self.centroids, 1 + _STRIDE)
        return total

    def swap(self) -> None:
        """Swap centroids by `swap_centroids`; the next pass updates the labels."""
        order = self.labels.argsort(stable=True)
        members = torch.split(order, torch.bincount(self.labels).tolist())
        self.centroids = swap_centroids(
            members, self.rows, self.weight, self.means(), self.distance
        )

    def _pass(self, cost: Cost) -> float:
        """Assign each row to the centroid of least cost; set `near` of the next pass."""
        k = len(self.centroids)
        order, pieces = _by_group(self.labels, k, self.block)
        near = _next_to(self.means(), self.centroids, min(self.near, k), self.block)
        square = self.centroids.square().sum(dim=1)

        def cheapest(first: int, last: int) -> tuple[Tensor, ...]:
            some = pieces[first:last]
            begin = some[0][0]
            rows = order[begin : some[-1][1]]
            here = near[self.labels[rows]]
            distance = self.norms[rows, None].repeat(1, near.shape[1])
            for start, stop, group in some:
                part, those = distance[start - begin : stop - begin], near[group]
                part += square[those]
                part.addmm_(self.rows[order[start:stop]].float(), self.centroids[those].T, alpha=-2)
            distance.clamp_(min=0)
            best = cost(rows, here, distance).argmin(dim=1, keepdim=True)
            return here.gather(1, best)[:, 0], distance.gather(1, best)[:, 0], best[:, 0]

        found = map_blocks(cheapest, len(pieces), _PIECES, self.threads)
        label, distance, rank = (torch.cat(parts) for parts in zip(*found, strict=True))
        reach = rank[label != self.labels[order]].double()
        if len(reach):
            self.near = max(_NARROW, 2 * int(reach.quantile(_REACH)))
        before, self.labels = self.labels, torch.empty_like(label)
        self.labels[order], self.distance[order] = label, distance
        reseat(self.labels, self.distance, k)
        self._move(before)
        within = (self.sums.square().sum(dim=1) / self.mass).sum()
        return float(self.weight @ self.norms.double() - within)

    def _move(self, before: Tensor) -> None:
        """Move the rows whose label changed between the sums, and update the centroids."""
        moved = (before != self.labels).nonzero()[:, 0]
        for part in torch.split(moved, self.block):
            weight, old, new = self.weight[part], before[part], self.labels[part]
            rows = self.rows[part].double().mul_(weight[:, None])
            # unlike index_add_, this sums in the same order on every run, on a GPU too
            self.sums.index_put_((new,), rows, accumulate=True)
            self.mass.index_put_((new,), weight, accumulate=True)
            self.sums.index_put_((old,), rows.neg_(), accumulate=True)
            self.mass.index_put_((old,), -weight, accumulate=True)
        self.centroids = self.means()


def _next_to(middles: Tensor, centroids: Tensor, near: int, block: int) -> Tensor:
    """Return the centroids nearest to each middle, nearest first: (groups, near)."""
    return torch.cat(
        [
            squared_distances(some, centroids).topk(near, largest=False).indices
            for some in torch.split(middles, block)
        ]
    )


def _by_group(group: Tensor, n_groups: int, block: int) -> tuple[Tensor, list[Piece]]:
    """Return row numbers sorted by group, and their pieces of at most ``block`` rows."""
    pieces, start = [], 0
    for number, size in enumerate(torch.bincount(group, minlength=n_groups).tolist()):
        end = start + size
        pieces += [(at, min(at + block, end), number) for at in range(start, end, block)]
        start = end
    return group.argsort(stable=True), pieces


def reseat(labels: Tensor, distance: Tensor, k: int) -> None:
    """Move to each empty cluster the farthest row of a cluster with several rows, in place.

    >>> labels = torch.tensor([0, 0, 1])
    >>> reseat(labels, torch.tensor([0.0, 4.0, 9.0]), 3)
    >>> labels
    tensor([0, 2, 1])
    """
    counts = torch.bincount(labels, minlength=k)
    empty = (counts == 0).nonzero()[:, 0].tolist()
    farthest = iter(distance.argsort(descending=True, stable=True).tolist() if empty else [])
    for label in empty:
        row = next(row for row in farthest if counts[labels[row]] > 1)
        counts[labels[row]] -= 1
        labels[row] = label
        distance[row] = 0
