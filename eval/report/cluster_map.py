"""Maps of the tasks: features projected onto their first two principal components."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.linalg import eigh

from presel_lightning.eval.report.samples import CHOSEN, REFERENCE, Samples
from presel_lightning.signals import Features

Json = dict[str, Any]

PER_TASK = 2000
IN_ALL = 20_000
"""Maximum number of points on a page, shared equally by the tasks."""
SIDE = 1000
"""Width and height of a map in integer coordinates."""


def read_maps(out: Path, samples: Samples, seed: int = 0) -> list[Json]:
    """Project each task's images, or a random sample of them.

    Only the features of the points are read.

    Args:
        out: the run folder.
        samples: its samples.
        seed: seed of the random sample.

    Returns:
        For each task: its size, its clusters and those with selected images, counts of selected and
        reference images; the share of variance that the map keeps; and the points as columns (uid,
        x, y, cluster, score, kind). Empty where the run has no features of its samples.
    """
    folder = Features(out / "signals").path
    if not (folder / "uid.npy").is_file():
        return []
    uids = np.load(folder / "uid.npy")
    order = np.argsort(uids)
    place = np.searchsorted(uids[order], samples.uid) % max(len(uids), 1)
    if not len(uids) or not np.array_equal(uids[order][place], samples.uid):
        return []  # features of another pool
    features = np.load(folder / "features.npy", mmap_mode="r")
    limit = min(PER_TASK, max(1, IN_ALL // len(samples.tasks)))
    maps = []
    for task, name in enumerate(samples.tasks):
        rows = samples.rows(task)
        shown = rows
        if len(rows) > limit:
            rng = np.random.default_rng([seed, task])
            shown = np.sort(rng.choice(rows, limit, replace=False))
        points, kept = project(np.asarray(features[order[place[shown]]], dtype=np.float64))
        maps.append({"task": name, "kept": kept, **_facts(samples, rows, shown, points)})
    return maps


def project(features: np.ndarray) -> tuple[np.ndarray, float]:
    r"""Project features onto their first two principal components.

    .. math:: Y = (X - \bar X) V_2

    with the two leading eigenvectors :math:`V_2` of the covariance, or, where there are fewer rows
    than columns, of the Gram matrix. The largest coordinate of either axis is positive, so that the
    map does not depend on the solver.

    Args:
        features: (n, D).

    Returns:
        (n, 2) coordinates, and their share of the variance, 0 to 1.
    """
    centered = features - features.mean(0)  # (n, D)
    n, d = centered.shape
    total = float((centered**2).sum())
    if total <= 1e-12 * max(1.0, float((features**2).sum())) or min(n, d) < 2:
        return np.zeros((n, 2)), 1.0
    matrix = centered @ centered.T if n < d else centered.T @ centered
    size = len(matrix)
    values, vectors = eigh(matrix, subset_by_index=[size - 2, size - 1])
    values, vectors = np.clip(values[::-1], 0, None), vectors[:, ::-1]
    points = vectors * np.sqrt(values) if n < d else centered @ vectors  # (n, 2)
    largest = points[np.abs(points).argmax(0), [0, 1]]
    return points * np.where(largest < 0, -1, 1), float(values.sum() / total)


def _facts(samples: Samples, rows: np.ndarray, shown: np.ndarray, points: np.ndarray) -> Json:
    """Return the row of the table beside the map, and the points as columns."""
    kind, cluster = samples.kind[rows], samples.cluster[rows]
    spread = (points.max(0) - points.min(0)).max() or 1.0
    scaled = np.rint((points - points.min(0)) / spread * SIDE).astype(int)
    return {
        "size": len(rows),
        "clusters": len(np.unique(cluster[cluster >= 0])),
        "clusters_chosen": len(np.unique(cluster[(cluster >= 0) & (kind == CHOSEN)])),
        "chosen": int((kind == CHOSEN).sum()),
        "reference": int((kind == REFERENCE).sum()),
        "points": {
            "uid": samples.names(shown),
            "x": scaled[:, 0].tolist(),
            "y": scaled[:, 1].tolist(),
            "cluster": samples.cluster[shown].tolist(),
            "score": samples.scores(shown),
            "kind": samples.kind[shown].tolist(),
        },
    }
