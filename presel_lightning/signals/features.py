"""Image features, one row per sample, memory-mapped."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
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
    """(N,) index of each sample's image in `images`."""


class Features(Signal):
    """`features/`: features.npy (N, D), uid.npy (N,) ASCII, images.parquet, meta.json."""

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
        """Return the rows of `features.npy` that hold these images, under whatever path.

        Args:
            key: fingerprint of the encoder.
            digests: (U,) 16 bytes that name the content of each.

        Returns:
            (U,) row numbers, -1 where there is none.
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

        Args:
            table: samples and their images.
            embedded: (V, D) features of the new images, in order.
            known: (U,) result of `rows_of_images`; -1 for new images.
            meta: provenance.
        """
        new = known < 0
        old = None if new.all() else np.load(self.path / "features.npy", mmap_mode="r")
        like = embedded if old is None else old
        source = np.where(new, np.cumsum(new) - 1, known)  # row among the new, or among the old
        with replacing_folder(self.path) as folder:
            shape = len(table.uid), like.shape[1]
            features = new_array(folder / "features.npy", like.dtype, shape)
            for start in range(0, len(features), COPIED):
                place = table.place[start : start + COPIED]
                rows, fresh = source[place], new[place]
                block = features[start : start + COPIED]
                if fresh.any():
                    block[fresh] = embedded[rows[fresh]]
                if old is not None:
                    block[~fresh] = old[rows[~fresh]]
            features.flush()  # type: ignore[attr-defined]
            np.save(folder / "uid.npy", table.uid.astype("S32"))
            _, row = np.unique(table.place, return_index=True)
            names = pa.array(table.images, pa.string())
            shown = pa.table({"image": names, "digest": packed16(table.digests), "row": row})
            pq.write_table(shown, folder / "images.parquet")
            write_json(folder / "meta.json", {**meta, "shape": list(features.shape)})
        vars(self).pop("_uids", None)  # cached from the previous files
