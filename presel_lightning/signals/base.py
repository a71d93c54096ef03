"""Per-sample facts that selectors choose by, on disk, joined on uid."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from presel_lightning.data.pool import Pool
from presel_lightning.errors import MissingSignalError
from presel_lightning.run.files import read_json, replacing, replacing_folder, write_json

PAIRED_LOSS = "paired_loss"
FEATURES = "features"
HELD_OUT_LOSS = "held_out_loss"
ON_REFERENCE = frozenset({PAIRED_LOSS, HELD_OUT_LOSS})
"""Signals that rest on models which were tuned on the reference split."""
KNOWN = (FEATURES, PAIRED_LOSS, HELD_OUT_LOSS)
"""What the recipe can make."""
PAIRED_COLUMNS = ("uid", "task", "loss_with_question", "loss_without_question", "n_tokens", "irs")


class FeatureTable(NamedTuple):
    """Which image each sample shows."""

    uid: np.ndarray
    """(N,) samples, in the order of the pool."""
    images: np.ndarray
    """(U,) paths of the distinct images."""
    sizes: np.ndarray
    """(U,) bytes of each file."""
    place: np.ndarray
    """(N,) number of the image that each sample shows."""


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
    def held_out_loss_path(self) -> Path:
        """`held_out_loss.parquet`: uid, task, start_loss, loss, correct, n_tokens."""
        return self.folder / "held_out_loss.parquet"

    @property
    def features_path(self) -> Path:
        """`features/`: features.npy (N, D), uid.npy (N,) ASCII, images.parquet, meta.json."""
        return self.folder / "features"

    def paired_loss(self) -> pa.Table:
        """Both losses and the IRS of every reference sample.

        Raises:
            MissingSignalError: they have not been computed.
        """
        if not self.paired_loss_path.exists():
            raise MissingSignalError(PAIRED_LOSS, self.folder)
        return pq.read_table(self.paired_loss_path)

    def held_out_loss(self) -> pa.Table:
        """Losses of every reference sample under a model that has not seen it.

        Returns:
            uid, task, start_loss (of the pre-instruction model), loss, loss_without_question (both
            of the model that was tuned on the other half), correct (whether that model foretells
            every token of the answer), n_tokens.

        Raises:
            MissingSignalError: they have not been computed.
        """
        if not self.held_out_loss_path.exists():
            raise MissingSignalError(HELD_OUT_LOSS, self.folder)
        return pq.read_table(self.held_out_loss_path)

    def irs_by_task(self, pool: Pool) -> dict[str, np.ndarray]:
        """IRS of each task's reference samples; NaN where it is undefined.

        Raises:
            MissingSignalError: they have not been computed.
        """
        table = self.paired_loss()
        task = np.asarray(table["task"].to_pylist())
        irs = table["irs"].to_numpy(zero_copy_only=False).astype(np.float64)  # null becomes NaN
        return {name: irs[task == name] for name in pool.tasks}

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
            pq.write_table(table.select(PAIRED_COLUMNS), path)

    def write_held_out_loss(self, start: pa.Table, one: pa.Table, other: pa.Table) -> None:
        """Join what the pre-instruction model and the models of both halves say.

        Args:
            start: losses of all reference samples under the pre-instruction model.
            one: losses of one half under the model of the other.
            other: and the other way round.
        """
        held_out = pa.concat_tables([one, other]).sort_by("uid")
        start = start.sort_by("uid")
        table = pa.table(
            {
                "uid": held_out["uid"],
                "task": held_out["task"],
                "start_loss": start["loss_with_question"],
                "loss": held_out["loss_with_question"],
                "loss_without_question": held_out["loss_without_question"],
                "correct": held_out["correct"],
                "n_tokens": held_out["n_tokens"],
            }
        )
        with replacing(self.held_out_loss_path) as path:
            pq.write_table(table, path)

    def known_features(self, key: str, images: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Rows of `features.npy` that show these images already.

        Args:
            key: of the encoder.
            images: (U,) paths.
            sizes: (U,) bytes of each file; an image of another size is another image.

        Returns:
            (U,) row numbers, -1 where there is none.
        """
        known = np.full(len(images), -1, dtype=np.int64)
        meta, table = self.features_path / "meta.json", self.features_path / "images.parquet"
        if not (meta.exists() and table.exists()) or read_json(meta).get("key") != key:
            return known
        found = pq.read_table(table)
        names = map("{} {}".format, found["image"].to_pylist(), found["size"].to_pylist())
        rows = dict(zip(names, found["row"].to_pylist(), strict=True))
        for number, (image, size) in enumerate(zip(images, sizes, strict=True)):
            known[number] = rows.get(f"{image} {size}", -1)
        return known

    def write_features(
        self, table: FeatureTable, embedded: np.ndarray, known: np.ndarray, meta: dict[str, Any]
    ) -> None:
        """Put the features in place at once.

        Args:
            table: samples and their images.
            embedded: (V, D) features of the images that are new, in their order.
            known: (U,) of `known_features`; -1 for the new ones.
            meta: what made them.
        """
        new = known < 0
        old = None if new.all() else np.load(self.features_path / "features.npy", mmap_mode="r")
        like = embedded if old is None else old
        source = np.where(new, np.cumsum(new) - 1, known)  # row among the new, or among the old
        with replacing_folder(self.features_path) as folder:
            features = np.lib.format.open_memmap(
                folder / "features.npy", "w+", like.dtype, (len(table.uid), like.shape[1])
            )
            for start in range(0, len(features), 1 << 14):
                place = table.place[start : start + (1 << 14)]
                rows, fresh = source[place], new[place]
                block = features[start : start + (1 << 14)]
                if fresh.any():
                    block[fresh] = embedded[rows[fresh]]
                if old is not None:
                    block[~fresh] = old[rows[~fresh]]
            features.flush()
            np.save(folder / "uid.npy", table.uid.astype("S32"))
            _, row = np.unique(table.place, return_index=True)
            names = pa.array(table.images, pa.string())
            shown = pa.table({"image": names, "size": table.sizes, "row": row})
            pq.write_table(shown, folder / "images.parquet")
            write_json(folder / "meta.json", {**meta, "shape": list(features.shape)})
