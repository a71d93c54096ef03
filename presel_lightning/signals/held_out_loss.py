"""Held-out losses of the reference samples, by cross-fitting over two halves of the split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from presel_lightning.run.files import replacing
from presel_lightning.signals.base import Signal

HALVES = ("held_out_a", "held_out_b")
"""Models of the two halves of the reference split."""


class HeldOutLoss(Signal):
    """`held_out_loss.parquet`: uid, task, start_loss, loss, …, n_tokens per reference sample."""

    name: ClassVar[str] = "held_out_loss"
    on_reference: ClassVar[bool] = True
    smallest_reference: ClassVar[int] = 2  # it is halved
    artifacts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **{half: (f"models/{half}",) for half in HALVES},
        "held_out": ("signals/held_out_loss.parquet",),
    }

    def read(self) -> pa.Table:
        """Read the losses of every reference sample under a model that was not tuned on it.

        Returns:
            uid, task, start_loss (of the pre-instruction model), loss, loss_without_question (both
            of the model that was tuned on the other half), correct (teacher-forced exact match
            under that model), n_tokens. Losses are in nats per answer token.

        Raises:
            MissingSignalError: they have not been computed.
        """
        return pq.read_table(self.require())

    def write(self, start: pa.Table, one: pa.Table, other: pa.Table) -> None:
        """Join the losses of the pre-instruction model and of the models of both halves.

        Args:
            start: losses of all reference samples under the pre-instruction model.
            one: losses of the first half under the model of the second half.
            other: losses of the second half under the model of the first half.
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
        with replacing(self.path) as path:
            pq.write_table(table, path)
