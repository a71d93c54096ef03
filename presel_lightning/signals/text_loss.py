"""Losses of the reference samples without their image, under the reference model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from presel_lightning.signals.base import ColumnSignal


class TextLoss(ColumnSignal):
    """`text_loss/`: `loss_without_image`, L(R|Q) of each reference sample in nats per answer token.

    L(R|Q,I) under the same model is in `paired_loss`.
    """

    name: ClassVar[str] = "text_loss"
    on_reference: ClassVar[bool] = True
    artifacts: ClassVar[Mapping[str, tuple[str, ...]]] = {"text_loss": ("signals/text_loss",)}
