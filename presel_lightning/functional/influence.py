"""Influence on a validation loss: inverse Hessian times validation gradient, block by block.

All estimators return h = Ĥ⁻¹ v for the damped second moment Ĥ of training gradients, so that the
utility of a training gradient g is +<h, g>: a step on it lowers the validation loss by that, to first
order. Higher is better; the influence of the papers, d(validation loss) / d(weight), is minus that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh

BLOCK = 2048
"""Rows that are held at a time."""
DAMPING = 0.1
"""Damping by default, in units of the mean square of a gradient's entries (DataInf)."""


class Gradients(NamedTuple):
    """Sketched gradients of some samples, memory-mapped or not."""

    rows: np.ndarray
    """(V, q) of any float dtype."""
    places: np.ndarray
    """(n,) which of them."""
    groups: np.ndarray
    """(L + 1,) edges of the column groups, that of each layer; from 0 to q."""
    lengths: np.ndarray | None = None
    """(V,) factor of each row; None for 1."""

    def blocks(self) -> Iterator[np.ndarray]:
        """Rows in float64, a block at a time."""
        for start in range(0, len(self.places), BLOCK):
            own = self.places[start : start + BLOCK]
            block = np.asarray(self.rows[own], dtype=np.float64)
            yield block if self.lengths is None else block * self.lengths[own, None].astype(float)

    def summed(self, columns: np.ndarray) -> np.ndarray:
        """Sum the columns (..., q) of each group, (..., L)."""
        summed: np.ndarray = np.add.reduceat(columns, self.groups[:-1], axis=-1)
        return summed

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Repeat a value of each group (..., L) for its columns, (..., q)."""
        spread: np.ndarray = np.repeat(values, np.diff(self.groups), axis=-1)
        return spread


def mean_gradient(gradients: Gradients) -> np.ndarray:
    """Average gradients, (q,); 0 of none."""
    total = np.zeros(gradients.rows.shape[1])
    for block in gradients.blocks():
        total += block.sum(axis=0)
    averaged: np.ndarray = total / max(1, len(gradients.places))
    return averaged


def utilities(gradients: Gradients, direction: np.ndarray) -> np.ndarray:
    """Compute <g_i, h>, (n,), for a direction h (q,); equal gradients have equal ones.

    By einsum: the last bits of a BLAS product depend on the place of a row among the others.
    """
    parts = [np.einsum("ij,j->i", block, direction) for block in gradients.blocks()]
    found: np.ndarray = np.concatenate([np.empty(0), *parts])
    return found


def damping_of(gradients: Gradients, share: float = DAMPING) -> np.ndarray:
    r"""Compute the damping of each group, (L,): :math:`\lambda_l = s\,\mathrm{mean}(G_l^2)`.

    A group whose gradients are all 0 gets the smallest positive damping of the others, 1 where there
    is none, so that nothing is divided by 0.

    Args:
        gradients: G.
        share: s.

    Source: DataInf, Section 3, where s is 0.1.
    """
    squares = np.zeros(len(gradients.groups) - 1)
    for block in gradients.blocks():
        squares += gradients.summed(block**2).sum(axis=0)
    entries = np.diff(gradients.groups) * max(1, len(gradients.places))
    damping = share * squares / entries
    floor = damping[damping > 0].min(initial=np.inf)
    filled: np.ndarray = np.where(damping > 0, damping, floor if np.isfinite(floor) else 1.0)
    return filled


def identity(gradients: Gradients, wanted: np.ndarray, damping: np.ndarray) -> np.ndarray:
    """Return the validation gradient itself: the plain inner product, without a Hessian."""
    return wanted


def datainf(gradients: Gradients, wanted: np.ndarray, damping: np.ndarray) -> np.ndarray:
    r"""Average the inverses of each sample's damped outer product, in closed form.

    .. math:: h_l = \frac{1}{n \lambda_l} \sum_i \Big[ v_l -
        \frac{\langle v_l, g_{il} \rangle}{\lambda_l + \lVert g_{il} \rVert^2} g_{il} \Big]

    One pass; a block of rows is held.

    Args:
        gradients: g, (n, q).
        wanted: v, (q,).
        damping: lambda, (L,).

    Returns:
        h, (q,).

    Source: Kwon, Wu, Wu, Zou, "DataInf", ICLR 2024, Equation 5.
    """
    total = np.zeros_like(wanted, dtype=np.float64)
    for block in gradients.blocks():
        share = gradients.summed(block * wanted) / (damping + gradients.summed(block**2))  # (b, L)
        total += (gradients.spread(share) * block).sum(axis=0)
    rest = wanted - total / max(1, len(gradients.places))
    found: np.ndarray = rest / gradients.spread(damping)
    return found


def lissa(
    gradients: Gradients, wanted: np.ndarray, damping: np.ndarray, iterations: int = 10
) -> np.ndarray:
    r"""Iterate r <- v + r - alpha (Ĥ + lambda) r towards (Ĥ + lambda)⁻¹ v = alpha r.

    alpha_l = 1 / (tr(Ĥ_l) + lambda_l), under which it converges for any gradients. Few iterations
    leave it far from the solution: `exact` is cheaper at the width of a sketch.

    Args:
        gradients: (n, q).
        wanted: v, (q,).
        damping: lambda, (L,).
        iterations: passes over the gradients.

    Source: Agarwal, Bullins, Hazan, "Second-Order Stochastic Optimization", JMLR 2017.
    """
    trace = np.zeros_like(damping)
    for block in gradients.blocks():
        trace += gradients.summed(block**2).sum(axis=0)
    n = max(1, len(gradients.places))
    rate, kept = gradients.spread(1 / (trace / n + damping)), gradients.spread(damping)
    found = wanted.astype(np.float64)
    for _ in range(iterations):
        product = np.zeros_like(found)
        for block in gradients.blocks():
            inside = gradients.spread(gradients.summed(block * found))
            product += (inside * block).sum(axis=0)
        found = wanted + found - rate * (product / n + kept * found)
    scaled: np.ndarray = found * rate
    return scaled


def exact(gradients: Gradients, wanted: np.ndarray, damping: np.ndarray) -> np.ndarray:
    r"""Solve :math:`(\lambda_l I + G_l^T G_l / n)\,h_l = v_l` for each group.

    Exact on the sketch; needs the squared width of a group in memory.

    Args:
        gradients: G, (n, q).
        wanted: v, (q,).
        damping: lambda, (L,).
    """
    edges = list(zip(gradients.groups[:-1], gradients.groups[1:], strict=True))
    moments = [np.zeros((end - start, end - start)) for start, end in edges]
    for block in gradients.blocks():
        for moment, (start, end) in zip(moments, edges, strict=True):
            moment += block[:, start:end].T @ block[:, start:end]
    found = np.empty_like(wanted, dtype=np.float64)
    for moment, (start, end), added in zip(moments, edges, damping, strict=True):
        moment /= max(1, len(gradients.places))
        moment[np.diag_indices(end - start)] += added
        found[start:end] = np.linalg.solve(moment, wanted[start:end])
    return found


ESTIMATORS: dict[str, Callable[[Gradients, np.ndarray, np.ndarray], np.ndarray]] = {
    "datainf": datainf,
    "identity": identity,
    "lissa": lissa,
    "exact-sketch": exact,
}
"""Estimators of Ĥ⁻¹ v by name."""


class Fisher(NamedTuple):
    """Damped empirical Fisher operator: the largest eigenpairs, and one value for the rest."""

    vectors: np.ndarray
    """(q, r) orthonormal."""
    values: np.ndarray
    """(r,) eigenvalues, descending, not negative."""
    tail: float
    """Eigenvalue of every other direction."""
    damping: float
    """Is added to every eigenvalue."""

    def solve(self, wanted: np.ndarray) -> np.ndarray:
        r"""Compute :math:`\hat{H}^{-1} v`, (q,).

        .. math:: U (\Lambda + \delta)^{-1} a + (v - U a) / (\tau + \delta), \quad a = U^T v
        """
        part = self.vectors.T @ wanted
        rest = wanted - self.vectors @ part
        inside = self.vectors @ (part / (self.values + self.damping))
        solved: np.ndarray = inside + rest / (self.tail + self.damping)
        return solved


def fisher(
    gradients: np.ndarray, rank: int, *, tail: str = "mean", damping: float = DAMPING
) -> Fisher:
    r"""Approximate :math:`F = G^T G / m` by its r largest eigenpairs, by Lanczos on one fixed F.

    The damping is :math:`\delta = s\,\mathrm{tr}(F) / q`. F is positive semi-definite, so no direction
    is ever divided by a negative number.

    Args:
        gradients: G, (m, q), float64.
        rank: r.
        tail: `mean`, (tr F - sum of the r values) / (q - r), or `next`, the (r+1)-th value.
        damping: s.

    Source: InfluenceSpace, with the Gauss-Newton operator in the place of its Hessian; s of DataInf.
    """
    m, q = gradients.shape
    trace = float((gradients**2).sum()) / max(1, m)
    delta = damping * trace / q or 1.0
    values, vectors = _largest(gradients, min(rank + 1, q))
    following = float(values[rank]) if len(values) > rank else 0.0
    values, vectors = values[:rank], vectors[:, :rank]
    rest = max(0.0, trace - float(values.sum())) / max(1, q - len(values))
    return Fisher(vectors, values, following if tail == "next" else rest, delta)


def _largest(gradients: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Largest eigenvalues of GᵀG/m, descending, and their eigenvectors (q, count)."""
    m, q = gradients.shape
    if not gradients.any():
        return np.zeros(count), np.eye(q, count)
    if count >= q or q <= 256:
        values, vectors = np.linalg.eigh(gradients.T @ gradients / max(1, m))
    else:
        # of trace 1, since ARPACK ends where it is right to an absolute 1e-27
        unit = 1 / np.linalg.norm(gradients)
        operator = LinearOperator(
            (q, q),
            matvec=lambda x: gradients.T @ (unit * (gradients @ (unit * x))),
            dtype=np.float64,
        )
        start = np.random.default_rng(0).normal(size=q)
        values, vectors = eigsh(operator, k=count, v0=start)
        values = values / unit**2 / m
    order = np.argsort(-values, kind="stable")[:count]
    return np.maximum(values[order], 0.0), vectors[:, order]
