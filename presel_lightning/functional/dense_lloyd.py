"""k-means of few clusters where few directions hold most of the variance.

Features of encoders are of this kind. Passes over the leading principal components compare each row
with every centroid, at a fraction of the cost; a few passes over all dimensions end the search.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from presel_lightning.functional.lloyd import reseat
from presel_lightning.functional.swaps import swap_centroids
from presel_lightning.functional.threads import Result, map_blocks

N_AXES = 128
_SAMPLE = 2048  # rows that the axes are computed from
_SPREAD = 100  # effective number of dimensions above which no axes are worth it
_ROUNDS, _WORTH = 5, 2e-3  # rounds of swaps; they end when one lowers the inertia by less
_PLAIN, _BETWEEN = 3, 6  # the first rounds follow each other; before each later one, passes
_PASSES, _TOL = 15, 1.5e-4  # passes at the end
_PULL = 0.6  # fraction of Hartigan's correction that is applied, as near rows move together
_ALONE = 1e-9  # replaces the mass 0 of a cluster without its only row


def leading_axes(rows: Tensor) -> Tensor | None:
    r"""Return the leading principal axes of the rows if few directions hold most of the variance.

    .. math:: d_{\mathrm{eff}} = (\operatorname{tr} C)^2 / \lVert C \rVert_F^2 \le 100

    for the covariance C of the first 2048 rows.

    Args:
        rows: (n, D) float32, in random order.

    Returns:
        (D, 128) orthonormal, or None: D is below 256, rows are fewer, or the variance is spread.
    """
    if min(rows.shape) < 2 * N_AXES:
        return None
    centered = rows[:_SAMPLE] - rows[:_SAMPLE].mean(dim=0)
    covariance = centered.T @ centered
    if covariance.trace().square() > _SPREAD * covariance.square().sum():
        return None
    axes: Tensor = torch.linalg.eigh(covariance).eigenvectors[:, -N_AXES:]
    return axes.contiguous()


def project(features: Tensor, place: Tensor, axes: Tensor, block: int, threads: int) -> Tensor:
    """Project the rows at ``place`` on the axes, (n, axes) float32."""
    middle = features[place[:_SAMPLE]].float().mean(dim=0) @ axes

    def part(start: int, stop: int) -> Tensor:
        return features[place[start:stop]].float() @ axes - middle

    return torch.cat(map_blocks(part, len(place), block, threads))


class DenseLloyd:
    """Passes in which each row is compared with every centroid.

    Args:
        rows: (n, D) of a float dtype, distinct.
        weight: (n,) float64 weight of each row.
        block: maximum rows of a matrix product.
        threads: number of threads.
        labels: (n,) int64 to begin with, each of 0 … C-1 at least once.
        centroids: (C, D) float32 to begin with instead.

    Raises:
        ValueError: Neither is given.
    """

    def __init__(
        self,
        rows: Tensor,
        weight: Tensor,
        block: int,
        threads: int,
        *,
        labels: Tensor | None = None,
        centroids: Tensor | None = None,
    ) -> None:
        self.rows, self.weight, self.block, self.threads = rows, weight, block, threads
        self.norms = torch.cat(
            self._blocks(lambda start, stop: rows[start:stop].float().square().sum(dim=1))
        )
        self.distance = torch.zeros(len(rows), device=rows.device)
        if labels is None:
            if centroids is None:
                raise ValueError("expected labels or centroids")
            labels = self._nearest(centroids)
            reseat(labels, self.distance, len(centroids))
        self.labels: Tensor = labels
        k = int(labels.max()) + 1
        self.sums = weight.new_zeros(k, rows.shape[1])
        self.mass = weight.new_zeros(k)
        for some in torch.arange(len(rows), device=rows.device).split(block):
            self._add(some, self.labels[some], 1)
        self.centroids = self.means()

    def means(self) -> Tensor:
        """Compute the mean of each label's rows, (C, D) float32."""
        return (self.sums / self.mass[:, None]).float()

    def inertia(self) -> float:
        """Sum of squared distances to the means."""
        within = (self.sums.square().sum(dim=1) / self.mass).sum()
        return float(self.weight @ self.norms.double() - within)

    def swap(self) -> None:
        """Swap centroids by `swap_centroids`, and assign each row to the nearest."""
        members = torch.split(
            self.labels.argsort(stable=True), torch.bincount(self.labels).tolist()
        )
        centroids = swap_centroids(members, self.rows, self.weight, self.means(), self.distance)
        self._move(self._nearest(centroids))
        self.centroids = self.means()

    def improve(self) -> None:
        r"""Assign each row to the centroid of least cost, and over-relax the centroids.

        A row of weight w that joins a cluster of mass m adds :math:`\frac{m}{m + w} w d^2` to the
        inertia; one that leaves removes :math:`\frac{m}{m - w} w d^2`.

        Source: Hartigan 1975, Clustering algorithms; here with all rows at a time.
        """
        mass, weight = self.mass.float(), self.weight.float()
        alike = bool((weight == weight[0]).all())  # one share for all rows is less to compute

        def cheapest(start: int, stop: int) -> tuple[Tensor, Tensor]:
            distance, own = self._distances(start, stop), self.labels[start:stop, None]
            share = _PULL * (weight[:1] if alike else weight[start:stop])[:, None]
            stay = distance.gather(1, own) / (1 - share / mass[own]).clamp_(min=_ALONE)
            cost = (distance / (1 + share / mass)).scatter_(1, own, stay)
            best = cost.argmin(dim=1, keepdim=True)
            return best[:, 0], distance.gather(1, best)[:, 0]

        labels, self.distance = map(torch.cat, zip(*self._blocks(cheapest), strict=True))
        before = self.centroids
        self._move(labels)
        self.centroids = 2 * self.means() - before

    def passes(self, n: int, tol: float) -> None:
        """Run `improve` up to ``n`` times; stop when a pass gains less than ``tol``."""
        before = torch.inf
        for _ in range(n):
            self.improve()
            now = self.inertia()
            if before - now <= tol * now:
                return
            before = now

    def _distances(self, start: int, stop: int) -> Tensor:
        """Squared distances of a block of rows to all centroids."""
        square = self.centroids.square().sum(dim=1)
        found = torch.addmm(square, self.rows[start:stop].float(), self.centroids.T, alpha=-2)
        return found.add_(self.norms[start:stop, None]).clamp_(min=0)

    def _nearest(self, centroids: Tensor) -> Tensor:
        self.centroids = centroids
        found = self._blocks(lambda start, stop: self._distances(start, stop).min(dim=1))
        self.distance, labels = map(torch.cat, zip(*found, strict=True))
        return labels

    def _move(self, labels: Tensor) -> None:
        """Set the labels, and move the rows whose label changed between the sums."""
        reseat(labels, self.distance, len(self.mass))
        for some in torch.ne(labels, self.labels).nonzero()[:, 0].split(self.block):
            self._add(some, labels[some], 1)
            self._add(some, self.labels[some], -1)
        self.labels = labels

    def _add(self, some: Tensor, labels: Tensor, sign: int) -> None:
        weight = sign * self.weight[some]
        # unlike index_add_, this sums in the same order on every run, on a GPU too
        self.sums.index_put_(
            (labels,), self.rows[some].double().mul_(weight[:, None]), accumulate=True
        )
        self.mass.index_put_((labels,), weight, accumulate=True)

    def _blocks(self, function: Callable[[int, int], Result]) -> list[Result]:
        return map_blocks(function, len(self.rows), self.block, self.threads)


def search(rows: Tensor, weight: Tensor, seeds: Tensor, block: int, threads: int) -> Tensor:
    """Labels (n,) of rows, from centroids: rounds of swaps, then passes."""
    lloyd = DenseLloyd(rows, weight, block, threads, centroids=seeds)
    before = lloyd.inertia()
    for number in range(_ROUNDS):
        if number >= _PLAIN:
            lloyd.passes(_BETWEEN, _TOL)
        lloyd.swap()
        now = lloyd.inertia()
        if before - now <= _WORTH * now:
            break
        before = now
    lloyd.passes(_PASSES, _TOL)
    return lloyd.labels
