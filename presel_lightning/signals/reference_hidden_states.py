"""What the last hidden states of every sample say, under the reference model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from presel_lightning.signals.base import ColumnSignal


class ReferenceHiddenStates(ColumnSignal):
    """`reference_hidden_states/`: the columns of `hidden_states`, of the model tuned on the reference."""

    name: ClassVar[str] = "reference_hidden_states"
    on_reference: ClassVar[bool] = True
    artifacts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "reference_hidden_states": ("signals/reference_hidden_states",)
    }
