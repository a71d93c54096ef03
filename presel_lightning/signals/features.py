"""Image features, one row per sample, memory-mapped."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from presel_lightning.data.build import packed16
from presel_lightning.data.pool import Pool
from presel_lightning.errors import MissingSignalError
from presel_lightning.run.arrays import new_array
from presel_lightning.run.files import read_json, replacing_folder, write_json
from presel_lightning.signals.base import Signal

COPIED = 1 << 14
"""Rows that are copied at a time."""


class FeatureTable(NamedTuple):
    """The image of each sample."""

    uid: np.ndarray
    """(N,) samples, in the order of the pool."""
    images: np.ndarray
    """(U,) paths of the distinct images."""
    digests: np.ndarray
    """(U,) 16 bytes that name the content of each."""
    place: np.ndarray
    """(N,) index of each sample's image in `images`; of several images that of the first."""
    several: Mapping[int, np.ndarray] = MappingProxyType({})
    """Indices of all images of the samples that have several, by the sample's place in `uid`."""


class Features(Signal):
    """`features/`: features.npy (N, D), uid.npy (N,) ASCII, images.parquet, meta.json.

    Where samples have several images, `parts.npy` (P, D) holds the features of those that no other
    sample shows alone.
    """

    name: ClassVar[str] = "features"
    artifacts: ClassVar[Mapping[str, tuple[str, ...]]] = {"features": ("signals/features",)}

    def exists(self) -> bool:
        """Return whether the features have been computed; `meta.json` is written last."""
        return (self.path / "meta.json").exists()

    def read(self, pool: Pool, rows: np.ndarray) -> np.ndarray:
        """Read the features of some rows of the pool, (len(rows), D) float32.

        Raises:
            MissingSignalError: they have not been computed, or not for these samples.
        """
        features = np.load(self.require() / "features.npy", mmap_mode="r")
        uids, order = self._uids
        wanted = pool.uid[rows].astype(uids.dtype)
        found = np.searchsorted(uids, wanted) % len(uids)
        if not np.array_equal(uids[found], wanted):
            raise MissingSignalError(self.name, self.folder)
        return np.asarray(features[order[found]], dtype=np.float32)

    @cached_property
    def _uids(self) -> tuple[np.ndarray, np.ndarray]:
        """Sorted uids that have features, and the row of each."""
        uids: np.ndarray = np.load(self.path / "uid.npy")
        order = np.argsort(uids)
        return uids[order], order

    def rows_of_images(self, key: str, digests: np.ndarray) -> np.ndarray:
        """Return the rows that hold these images, under whatever path.

        Args:
            key: fingerprint of the encoder.
            digests: (U,) 16 bytes that name the content of each.

        Returns:
            (U,) row numbers in `features.npy`, behind them in `parts.npy`; -1 where there is none.
        """
        known = np.full(len(digests), -1, dtype=np.int64)
        meta, table = self.path / "meta.json", self.path / "images.parquet"
        if not (meta.exists() and table.exists()) or read_json(meta).get("key") != key:
            return known
        found = pq.read_table(table, columns=["digest", "row"])
        rows = dict(zip(found["digest"].to_pylist(), found["row"].to_pylist(), strict=True))
        for number, digest in enumerate(digests):
            known[number] = rows.get(digest.tobytes(), -1)
        return known

    def write(
        self, table: FeatureTable, embedded: np.ndarray, known: np.ndarray, meta: dict[str, Any]
    ) -> None:
        """Write the features atomically.

        That of a sample with several images is `mean_direction` of theirs.

        Args:
            table: samples and their images.
            embedded: (V, D) features of the new images, in order.
            known: (U,) result of `rows_of_images`; -1 for new images.
            meta: provenance.
        """
        images = _Images(embedded, known, [] if (known < 0).all() else self._stored())
        alone, row = _shown_alone(table)
        with replacing_folder(self.path) as folder:
            shape = len(table.uid), images.width
            features = new_array(folder / "features.npy", images.dtype, shape)
            for start in range(0, len(features), COPIED):
                features[start : start + COPIED] = images[table.place[start : start + COPIED]]
            for sample, places in table.several.items():
                features[sample] = _mean(images[places])
            features.flush()  # type: ignore[attr-defined]
            if not alone.all():
                np.save(folder / "parts.npy", images[np.flatnonzero(~alone)])
            np.save(folder / "uid.npy", table.uid.astype("S32"))
            names = pa.array(table.images, pa.string())
            shown = pa.table({"image": names, "digest": packed16(table.digests), "row": row})
            pq.write_table(shown, folder / "images.parquet")
            write_json(folder / "meta.json", {**meta, "shape": list(features.shape)})
        vars(self).pop("_uids", None)  # cached from the previous files

    def _stored(self) -> list[np.ndarray]:
        """The arrays that hold features of images now, one behind the other."""
        paths = [self.path / "features.npy", self.path / "parts.npy"]
        return [np.load(path, mmap_mode="r") for path in paths if path.exists()]


def _mean(features: np.ndarray) -> np.ndarray:
    """Feature (D,) of several images (n, D)."""
    import torch

    from presel_lightning.functional import mean_direction

    found: np.ndarray = mean_direction(torch.from_numpy(features)).numpy()
    return found


class _Images:
    """Features of the distinct images, new and known, by their index.

    Args:
        embedded: (V, D) features of the new images, in order.
        known: (U,) row of each image in `old`; -1 for the new ones.
        old: arrays of the features that are known, counted one behind the other.
    """

    def __init__(self, embedded: np.ndarray, known: np.ndarray, old: list[np.ndarray]) -> None:
        self._new = known < 0
        self._row = np.where(self._new, np.cumsum(self._new) - 1, known)
        self._embedded, self._old = embedded, old
        like = old[0] if old else embedded
        self.dtype, self.width = like.dtype, like.shape[1]

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        """Features (k, D) of the images at some indices (k,)."""
        found = np.empty((len(places), self.width), dtype=self.dtype)
        row, new = self._row[places], self._new[places]
        if new.any():
            found[new] = self._embedded[row[new]]
        start = 0
        for array in self._old:
            held = ~new & (row >= start) & (row < start + len(array))
            found[held] = array[row[held] - start]
            start += len(array)
        return found


def _shown_alone(table: FeatureTable) -> tuple[np.ndarray, np.ndarray]:
    """Which images a sample shows alone, (U,) bool, and the row that holds each; see `rows_of_images`."""
    single = np.ones(len(table.uid), dtype=bool)
    single[list(table.several)] = False
    samples = np.flatnonzero(single)
    places, first = np.unique(table.place[samples], return_index=True)
    alone = np.zeros(len(table.images), dtype=bool)
    alone[places] = True
    row = len(table.uid) + np.cumsum(~alone) - 1
    row[places] = samples[first]
    return alone, row
