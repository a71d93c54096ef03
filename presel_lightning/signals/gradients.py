"""Sketched gradient of every sample's loss with respect to the reference model's adapters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from presel_lightning.run.files import read_json
from presel_lightning.signals.base import ColumnSignal


class Gradients(ColumnSignal):
    """`gradients/`: columns over the samples of the pool that have an instruction.

    Of the mean loss of a sample's answer tokens under the reference model:

    - `direction`: (q,) sketch of the gradient, of length 1, in half precision;
    - `length`: length of the sketch; NaN where a sample has no answer token;
    - `norm`: length of the gradient itself;
    - `loss`: in nats.

    `meta.json` holds `edges`, the first column of each decoder layer and the width q.

    Where `validation` names a file, its samples have columns of their own: `validation_direction`,
    `validation_length` and `validation_task`.

    Where `warmup_checkpoints` is above 1, directions and lengths at the earlier checkpoints of the
    reference fit have a prefix, `warm_up_1_` for the first, and `meta.json` holds `rates`.
    """

    name: ClassVar[str] = "gradients"
    on_reference: ClassVar[bool] = True
    artifacts: ClassVar[Mapping[str, tuple[str, ...]]] = {"gradients": ("signals/gradients",)}

    def edges(self) -> np.ndarray:
        """First column of each decoder layer, and the width, (L + 1,).

        Raises:
            MissingSignalError: the signal has not been computed.
        """
        return np.array(read_json(self.require() / "meta.json")["edges"], dtype=np.int64)

    def rates(self) -> np.ndarray:
        """Mean learning rate of the part of the reference fit that each checkpoint ends, (C,).

        The last checkpoint is the reference model; alone, its rate is 1.

        Raises:
            MissingSignalError: the signal has not been computed.
        """
        meta = read_json(self.require() / "meta.json")
        return np.array(meta.get("rates", [1.0]), dtype=np.float64)

    @staticmethod
    def at(checkpoint: int, column: str) -> str:
        """Name a column at an earlier checkpoint, counted from 1; at 0 it is that of the last."""
        return f"warm_up_{checkpoint}_{column}" if checkpoint else column

    def has_validation(self) -> bool:
        """Whether the gradients of a validation file are there."""
        return (self.require() / "validation_task.npy").exists()
