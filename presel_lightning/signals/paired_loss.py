"""Losses of the reference samples with and without their question, and the IRS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from presel_lightning.data.pool import Pool
from presel_lightning.run.files import replacing
from presel_lightning.signals.base import Signal

COLUMNS = ("uid", "task", "loss_with_question", "loss_without_question", "n_tokens", "irs")


class PairedLoss(Signal):
    """`paired_loss.parquet`: uid, task, both losses, n_tokens, irs per reference sample."""

    name: ClassVar[str] = "paired_loss"
    on_reference: ClassVar[bool] = True
    artifacts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "reference": ("models/reference",),
        "losses": ("signals/paired_loss.parquet",),
    }

    def read(self) -> pa.Table:
        """Read both losses and the IRS of every reference sample.

        Raises:
            MissingSignalError: they have not been computed.
        """
        return pq.read_table(self.require())

    def irs_by_task(self, pool: Pool) -> dict[str, np.ndarray]:
        """Return the IRS of each task's reference samples; NaN where it is undefined.

        Raises:
            MissingSignalError: they have not been computed.
        """
        table = self.read()
        task = np.asarray(table["task"].to_pylist())
        irs = table["irs"].to_numpy(zero_copy_only=False).astype(np.float64)  # null becomes NaN
        return {name: irs[task == name] for name in pool.tasks}

    def write(self, table: pa.Table) -> None:
        """Write the paired losses atomically."""
        with replacing(self.path) as path:
            pq.write_table(table.select(COLUMNS), path)
