"""A made-up task on which two of eight clusters have their labels flipped."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

Points = tuple[np.ndarray, np.ndarray]


class Toy(NamedTuple):
    """800 points of 20 dimensions in 8 clusters, on both sides of a plane."""

    train: Points
    cluster: np.ndarray
    """(800,) of the points to train on; labels of 0 and 1 are flipped."""
    validation: Points
    test: Points


def make_toy(seed: int) -> Toy:
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=20)
    normal /= np.linalg.norm(normal)
    centers = 2 * rng.normal(size=(8, 20))
    side = np.array([1.5, -1.5] * 4)
    centers += (side - centers @ normal)[:, None] * normal

    def draw(n: int) -> Points:
        points = np.repeat(centers, n // 8, axis=0) + 1.5 * rng.normal(size=(n, 20))
        with_one = np.concatenate([points, np.ones((n, 1))], axis=1)
        return with_one, (points @ normal > 0).astype(float)

    train, test, validation = draw(800), draw(800), draw(160)
    cluster = np.repeat(np.arange(8), 100)
    labels = np.where(cluster < 2, 1 - train[1], train[1])
    return Toy((train[0], labels), cluster, validation, test)


def fit(data: Points) -> np.ndarray:
    """Logistic regression by gradient descent."""
    points, labels = data
    weights = np.zeros(points.shape[1])
    rate = 20 / (points**2).sum(axis=1).mean()
    for _ in range(300):
        step = points.T @ (chances(weights, points) - labels) / len(labels)
        weights -= rate * (step + 1e-2 * weights)
    return weights


def gradients(weights: np.ndarray, data: Points) -> np.ndarray:
    """Gradient of the loss of each point."""
    points, labels = data
    found: np.ndarray = (chances(weights, points) - labels)[:, None] * points
    return found


def accuracy(weights: np.ndarray, data: Points) -> float:
    points, labels = data
    return float(((points @ weights > 0) == (labels > 0.5)).mean())


def chances(weights: np.ndarray, points: np.ndarray) -> np.ndarray:
    found: np.ndarray = 1 / (1 + np.exp(-points @ weights))
    return found
