"""What the last hidden states of every sample say, under the pre-instruction model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from presel_lightning.signals.base import ColumnSignal


class HiddenStates(ColumnSignal):
    """`hidden_states/`: columns over the samples of the pool that have an instruction.

    Of the output of the last decoder layer, before the final norm, at all tokens of the
    conversation, image and answers included:

    - `entropy`: entropy of the normalized singular values, in nats;
    - `concentration`: the largest of these values;
    - `last`: (D,) state of the last token, float32;
    - `n_tokens`: number of tokens.
    """

    name: ClassVar[str] = "hidden_states"
    artifacts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "hidden_states": ("signals/hidden_states",)
    }
