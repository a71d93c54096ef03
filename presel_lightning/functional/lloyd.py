"""Passes over rows in which each is compared with the centroids near its own, and no others."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from presel_lightning.functional.seeding import squared_distances
from presel_lightning.functional.swaps import swap_centroids
from presel_lightning.functional.threads import map_blocks

_NARROW = 16  # fewest centroids that a row is compared with
_REACH = 0.8  # part of the rows that moved, twice whose reach the next pass looks at
_PULL = 0.6  # part of a row's pull on its centroid that counts, as near rows move together
_STRIDE = 0.5  # how much farther than to the mean a centroid goes
_PIECES = 16  # pieces that one thread takes at a time
_ALONE = 1e-9  # stands for the nothing that is left of a cluster without its only row

Piece = tuple[int, int, int]  # start, stop, group: neighbouring rows of one group
Cost = Callable[[Tensor, Tensor, Tensor], Tensor]
"""What it costs to give rows (n,) to centroids (n, near) at the distances (n, near)."""


@dataclass
class Lloyd:
    """A clustering under way, on one device. Rows are numbered as they lie here."""

    rows: Tensor  # (U, D) of a float dtype, laid out by their first labels
    index: Tensor  # (U,) number of each row at the start
    weight: Tensor  # (U,) float64, how often each row counts
    norms: Tensor  # (U,) float32, squared
    labels: Tensor  # (U,) int64
    distance: Tensor  # (U,) float32, squared, to the centroid that the row was given to
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

        Each row is given to the nearest of the ``near`` centroids next to its cell.
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
        """Of the labels, (C, D) float32."""
        return (self.sums / self.mass[:, None]).float()

    def passes(self, n: int, tol: float) -> None:
        """Up to ``n`` times `improve`, until a pass gains too little for the width it looks at."""
        before = torch.inf
        for _ in range(n):
            width = min(self.near, len(self.centroids)) / _NARROW
            now = self.improve()
            if before - now <= tol * now * width:
                return
            before = now

    def assign(self) -> float:
        """Each row to the nearest of its near centroids; these follow.

        Returns:
            The sum of squared distances to the means.
        """
        return self._pass(lambda rows, here, distance: distance)

    def improve(self) -> float:
        r"""Each row to where it costs least, of its near centroids; these follow, and go beyond.

        A row of weight w that joins a cluster of mass m draws its mean along and adds
        :math:`\frac{m}{m + w} w d^2` to the sum; one that leaves takes
        :math:`\frac{m}{m - w} w d^2` from it. So some moves pay although the row's own mean, which
        it has drawn to itself, is the nearest: in many dimensions nearly all that do.

        Returns:
            The sum of squared distances to the means.

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
        """Move centroids that are missed more elsewhere; labels follow with the next pass."""
        order = self.labels.argsort(stable=True)
        members = torch.split(order, torch.bincount(self.labels).tolist())
        self.centroids = swap_centroids(
            members, self.rows, self.weight, self.means(), self.distance
        )

    def _pass(self, cost: Cost) -> float:
        """Give each row to the centroid that costs least; set how many the next pass looks at."""
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
        """Take the rows whose label is new from one sum to another, and average."""
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
    """The centroids next to each middle, nearest first: (groups, near)."""
    return torch.cat(
        [
            squared_distances(some, centroids).topk(near, largest=False).indices
            for some in torch.split(middles, block)
        ]
    )


def _by_group(group: Tensor, n_groups: int, block: int) -> tuple[Tensor, list[Piece]]:
    """Row numbers group by group, and where to cut them into pieces of at most ``block`` rows."""
    pieces, start = [], 0
    for number, size in enumerate(torch.bincount(group, minlength=n_groups).tolist()):
        end = start + size
        pieces += [(at, min(at + block, end), number) for at in range(start, end, block)]
        start = end
    return group.argsort(stable=True), pieces


def reseat(labels: Tensor, distance: Tensor, k: int) -> None:
    """Give each empty cluster the farthest row that is not alone in its own, in place.

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
