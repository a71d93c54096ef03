"""Per-sample facts that selectors choose by, on disk, joined on uid."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from presel_lightning.data.pool import Pool
from presel_lightning.errors import MissingSignalError
from presel_lightning.store import replacing, replacing_folder, write_json

PAIRED_LOSS = "paired_loss"
FEATURES = "features"


class Signals:
    """The folder `OUT/signals`: one file or folder a signal.

    Args:
        folder: where the recipe wrote the signals.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    @property
    def paired_loss_path(self) -> Path:
        """`paired_loss.parquet`: uid, task, both losses, n_tokens, irs."""
        return self.folder / "paired_loss.parquet"

    @property
    def features_path(self) -> Path:
        """`features/`: features.npy (N, D), uid.npy (N,), meta.json."""
        return self.folder / "features"

    def paired_loss(self) -> pa.Table:
        """Both losses and the IRS of every reference sample.

        Raises:
            MissingSignalError: they have not been computed.
        """
        if not self.paired_loss_path.exists():
            raise MissingSignalError(PAIRED_LOSS, self.folder)
        return pq.read_table(self.paired_loss_path)

    def features(self, pool: Pool, rows: np.ndarray) -> np.ndarray:
        """Features of some rows of the pool, (len(rows), D) float32; the rest stays on disk.

        Raises:
            MissingSignalError: they have not been computed, or not for these samples.
        """
        if not (self.features_path / "meta.json").exists():
            raise MissingSignalError(FEATURES, self.folder)
        features = np.load(self.features_path / "features.npy", mmap_mode="r")
        uids, order = self._feature_uids
        wanted = pool.uid[rows].astype(uids.dtype)
        found = np.searchsorted(uids, wanted) % len(uids)
        if not np.array_equal(uids[found], wanted):
            raise MissingSignalError(FEATURES, self.folder)
        return np.asarray(features[order[found]], dtype=np.float32)

    @cached_property
    def _feature_uids(self) -> tuple[np.ndarray, np.ndarray]:
        """Uids that have features, sorted, and the row of each."""
        uids: np.ndarray = np.load(self.features_path / "uid.npy")
        order = np.argsort(uids)
        return uids[order], order

    def write_paired_loss(self, table: pa.Table) -> None:
        """Put the paired losses in place at once."""
        with replacing(self.paired_loss_path) as path:
            pq.write_table(table, path)

    def write_features(
        self, uids: np.ndarray, unique: np.ndarray, place: np.ndarray, meta: dict[str, Any]
    ) -> None:
        """Put the features in place at once.

        Args:
            uids: (N,) samples, in the order of the pool.
            unique: (U, D) features of the distinct images.
            place: (N,) row of `unique` that belongs to each sample.
            meta: what made them.
        """
        with replacing_folder(self.features_path) as folder:
            features = np.lib.format.open_memmap(
                folder / "features.npy", "w+", unique.dtype, (len(uids), unique.shape[1])
            )
            for start in range(0, len(uids), 1 << 14):
                features[start : start + (1 << 14)] = unique[place[start : start + (1 << 14)]]
            features.flush()
            np.save(folder / "uid.npy", uids.astype("U32"))
            write_json(folder / "meta.json", {**meta, "shape": list(features.shape)})
