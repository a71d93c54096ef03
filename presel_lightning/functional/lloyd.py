"""Lloyd's passes over rows that lie in groups, each compared with the centroids near its group."""

from dataclasses import dataclass

import torch
from torch import Tensor

from presel_lightning.functional.seeding import squared_distances
from presel_lightning.functional.swaps import swap_centroids
from presel_lightning.functional.threads import map_blocks

_PIECES = 16  # pieces that one thread takes at a time

Piece = tuple[int, int, int]  # start, stop, group: neighbouring rows of one group


@dataclass
class Lloyd:
    """A clustering under way, on one device. Rows are numbered as they lie here, group after group."""

    source: Tensor  # (N, D) of a float dtype
    place: Tensor  # (U,) where in `source` each row is
    index: Tensor  # (U,) number of each row at the start
    weight: Tensor  # (U,) float64, how often each row counts
    norms: Tensor  # (U,) float32, squared
    labels: Tensor  # (U,) int64, C before the first pass
    distance: Tensor  # (U,) float32, squared, to the centroid that the row was given to
    pieces: list[Piece]
    middles: Tensor  # (groups, D) float32
    centroids: Tensor  # (C, D) float32: means of the labels, or what `swap` made of them
    sums: Tensor  # (C, D) float64, of the labels
    mass: Tensor  # (C,) float64
    block: int
    threads: int
    laid_out: bool = False  # whether the rows lie in `source` as they are numbered

    @classmethod
    def start(
        cls,
        features: Tensor,
        place: Tensor,
        weight: Tensor,
        cells: Tensor,
        centroids: Tensor,
        block: int,
        threads: int,
    ) -> "Lloyd":
        """Group the rows at ``place`` by their nearest cell; no labels yet."""

        def nearest(start: int, stop: int) -> tuple[Tensor, Tensor]:
            rows = features[place[start:stop]].float()
            return squared_distances(rows, cells).argmin(dim=1), rows.square().sum(dim=1)

        blocks = map_blocks(nearest, len(place), block, threads)
        cell, norms = (torch.cat(parts) for parts in zip(*blocks, strict=True))
        order = cell.argsort(stable=True)
        return cls(
            source=features,
            place=place[order],
            index=order,
            weight=weight[order],
            norms=norms[order],
            labels=torch.full_like(order, len(centroids)),
            distance=torch.zeros_like(norms),
            pieces=_pieces(torch.bincount(cell, minlength=len(cells)), block),
            middles=cells,
            centroids=centroids,
            sums=weight.new_zeros(centroids.shape),
            mass=weight.new_zeros(len(centroids)),
            block=block,
            threads=threads,
        )

    def regroup(self) -> None:
        """Lay the rows out cluster by cluster, in a copy."""
        order = self.labels.argsort(stable=True)
        self.source, self.index = self.source[self.place[order]], self.index[order]
        self.place, self.laid_out = torch.arange(len(order), device=order.device), True
        self.weight, self.norms = self.weight[order], self.norms[order]
        self.labels, self.distance = self.labels[order], self.distance[order]
        self.pieces = _pieces(torch.bincount(self.labels), self.block)
        self.middles = self.centroids

    def passes(self, n: int, near: int, tol: float) -> None:
        """Up to ``n`` passes, until one lowers the sum of distances by less than a part of it."""
        before = torch.inf
        for _ in range(n):
            now = self.assign(near)
            if before - now <= tol * now:
                return
            before = now

    def assign(self, near: int) -> float:
        """One pass: each row to the nearest of the ``near`` centroids next to its group.

        Returns:
            The sum of squared distances to the centroids before they follow the rows.
        """
        candidates = self._candidates(near)  # (groups, near)
        square = self.centroids.square().sum(dim=1)

        def nearest(first: int, last: int) -> list[tuple[Tensor, Tensor]]:
            results = []
            for start, stop, group in self.pieces[first:last]:
                here = candidates[group]
                rows = self._rows(start, stop)
                scores = torch.addmm(square[here], rows, self.centroids[here].T, alpha=-2)
                distance, label = scores.min(dim=1)
                results.append((here[label], distance))
            return results

        blocks = map_blocks(nearest, len(self.pieces), _PIECES, self.threads)
        found = [result for block in blocks for result in block]
        labels, distances = (torch.cat(parts) for parts in zip(*found, strict=True))
        self.distance = distances.add_(self.norms).clamp_(min=0)
        reseat(labels, self.distance, len(self.centroids))
        self._move(labels)
        return float(self.weight @ self.distance.double())

    def swap(self) -> None:
        """Move centroids that are missed more elsewhere; labels follow with the next pass."""
        order = self.labels.argsort(stable=True)
        members = torch.split(order, torch.bincount(self.labels).tolist())
        self.centroids = swap_centroids(
            members, self.source, self.weight, self.centroids, self.distance
        )

    def _rows(self, start: int, stop: int) -> Tensor:
        if self.laid_out:
            return self.source[start:stop].float()
        return self.source[self.place[start:stop]].float()

    def _candidates(self, near: int) -> Tensor:
        """The centroids next to each group's middle, (groups, near)."""
        near = min(near, len(self.centroids))
        return torch.cat(
            [
                squared_distances(middles, self.centroids).topk(near, largest=False).indices
                for middles in torch.split(self.middles, self.block)
            ]
        )

    def _move(self, labels: Tensor) -> None:
        """Take over new labels: move what changed between the sums, and average."""
        moved = (labels != self.labels).nonzero()[:, 0]
        labelled = bool(self.mass.any())  # no row is, before the first pass
        for part in torch.split(moved, self.block):
            weight, before, now = self.weight[part], self.labels[part], labels[part]
            rows = self.source[self.place[part]].double().mul_(weight[:, None])
            # unlike index_add_, this sums in the same order on every run, on a GPU too
            self.sums.index_put_((now,), rows, accumulate=True)
            self.mass.index_put_((now,), weight, accumulate=True)
            if labelled:
                self.sums.index_put_((before,), rows.neg_(), accumulate=True)
                self.mass.index_put_((before,), -weight, accumulate=True)
        self.labels = labels
        self.centroids = (self.sums / self.mass[:, None]).float()


def _pieces(sizes: Tensor, block: int) -> list[Piece]:
    """Cut groups that lie one after another into pieces of at most ``block`` rows."""
    pieces, start = [], 0
    for group, size in enumerate(sizes.tolist()):
        end = start + size
        pieces += [(at, min(at + block, end), group) for at in range(start, end, block)]
        start = end
    return pieces


def reseat(labels: Tensor, distance: Tensor, k: int) -> None:
    """Give each empty cluster the farthest row that is not alone in its own, in place."""
    counts = torch.bincount(labels, minlength=k)
    empty = (counts == 0).nonzero()[:, 0].tolist()
    farthest = iter(distance.argsort(descending=True, stable=True).tolist() if empty else [])
    for label in empty:
        row = next(row for row in farthest if counts[labels[row]] > 1)
        counts[labels[row]] -= 1
        labels[row] = label
        distance[row] = 0
