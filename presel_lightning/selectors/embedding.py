"""What a selector measures distances in: the image alone, or the image with its text."""

from __future__ import annotations

from typing import Literal

import numpy as np

from presel_lightning.data.pool import Pool
from presel_lightning.signals import ClipSimilarity, Features, Signals

Embedding = Literal["joint", "image"]
"""`joint`: image and text vectors of the image-text encoder, one behind the other; `image`: features of
the image encoder."""


def signal_of(embedding: Embedding) -> str:
    """Name the signal that an embedding is read from."""
    return Features.name if embedding == "image" else ClipSimilarity.name


def read_embedding(
    pool: Pool, signals: Signals, rows: np.ndarray, embedding: Embedding
) -> np.ndarray:
    """Read the embedding of some rows, (n, D) or (n, 2 D); NaN where a sample has no text."""
    if embedding == "image":
        features: np.ndarray = signals.features(pool, rows)
        return features
    return np.concatenate(
        [signals.clip_similarity(pool, rows, side) for side in ("image", "text")], axis=1
    )
