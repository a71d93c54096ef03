"""How the gradients of samples agree with those of others: cosines, votes, task shares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from presel_lightning.functional.influence import Gradients


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows (n, q) of length 1, or 0."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    divided: np.ndarray = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    return divided


def mean_directions(gradients: Gradients, groups: np.ndarray, n_groups: int) -> np.ndarray:
    """Average the gradients of each group after each has length 1, (T, q).

    Args:
        gradients: of n samples.
        groups: (n,) group of each.
        n_groups: T; a group without samples has the mean 0.
    """
    total = np.zeros((n_groups, gradients.rows.shape[1]))
    start = 0
    for block in gradients.blocks():
        members = groups[start : start + len(block)] == np.arange(n_groups)[:, None]  # (T, b)
        total += members.astype(np.float64) @ unit(block)
        start += len(block)
    counts = np.bincount(groups, minlength=n_groups)[:, None]
    averaged: np.ndarray = total / np.maximum(counts, 1)
    return averaged


def mean_cosines(gradients: Gradients, directions: np.ndarray) -> np.ndarray:
    r"""Compute :math:`\frac{1}{|V_t|} \sum_{v \in V_t} \cos(g_i, g_v)`, (n, T), by `mean_directions`.

    The mean of the cosines is the product with the mean direction, so no n x |V| table is made. Equal
    gradients have equal cosines, as by `utilities`.
    """
    parts = [np.einsum("ij,tj->it", unit(block), directions) for block in gradients.blocks()]
    return np.concatenate([np.empty((0, len(directions))), *parts])


def influence_over_checkpoints(
    checkpoints: Sequence[tuple[Gradients, np.ndarray]], rates: np.ndarray
) -> np.ndarray:
    r"""Sum the influence on each task over the checkpoints of a training, (n, T).

    .. math:: \mathrm{Inf}_{it} = \frac{1}{\sum_c \eta_c} \sum_c \eta_c \frac{1}{|V_t|}
        \sum_{v \in V_t} \cos(g_{ic}, g_{vc})

    The division leaves the order as it is, and a mean cosine in [-1, 1]. One checkpoint at a time is
    read, a block of its rows at a time.

    Args:
        checkpoints: of each, the gradients of the n samples, and the mean directions (T, q) of the
            tasks (`mean_directions`).
        rates: (C,) learning rates; all count alike where all are 0.

    Source: LESS, ICML 2024, Sections 3 and 4.
    """
    shares = rates / rates.sum() if rates.any() else np.full(len(rates), 1 / len(rates))
    (gradients, directions), *others = checkpoints
    total: np.ndarray = shares[0] * mean_cosines(gradients, directions)
    for share, (gradients, directions) in zip(shares[1:], others, strict=True):
        total += share * mean_cosines(gradients, directions)
    return total


def votes(influence: np.ndarray, share: float) -> np.ndarray:
    """Count the tasks (columns) for which a sample is among the best, (n,).

    Args:
        influence: (n, T) of each sample on each task.
        share: fraction of the samples that a task votes for; the threshold is the (1 - share)
            quantile, which votes for what is equal to it too.

    Source: ICONS, arXiv 2501.00654, Section 3.
    """
    if not influence.size:
        return np.zeros(len(influence), dtype=np.int64)
    threshold = np.quantile(influence, 1 - share, axis=0)
    counted: np.ndarray = (influence >= threshold).sum(axis=1)
    return counted


def voted_order(counted: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Order samples by votes, ties by mean influence, then by their place; (n,) best first."""
    return np.lexsort((np.arange(len(mean)), -mean, -counted))


def softmax_order(values: np.ndarray, sharpness: float, rng: np.random.Generator) -> np.ndarray:
    r"""Draw all samples without replacement with chances in proportion to :math:`e^{q v}`, (n,).

    The first k of the order are a draw of k (Gumbel noise and a sort).
    """
    noise = rng.gumbel(size=len(values))
    return np.argsort(-(sharpness * values + noise), kind="stable")
