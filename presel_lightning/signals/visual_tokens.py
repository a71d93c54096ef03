"""The visual tokens that the text of every sample attends to, under the pre-instruction model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from presel_lightning.signals.base import ColumnSignal


class VisualTokens(ColumnSignal):
    """`visual_tokens/`: columns over the samples of the pool that have an instruction.

    - `features`: (D,) float32, mean output of the first decoder layer over the visual tokens that
      hold 90 % of the attention of the text in that layer;
    - `finite`: 1 where all of them are finite.
    """

    name: ClassVar[str] = "visual_tokens"
    artifacts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "visual_tokens": ("signals/visual_tokens",)
    }
