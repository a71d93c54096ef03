"""Sketched gradient of every sample's loss with respect to the output head, without a backward pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from presel_lightning.signals.gradients import Gradients


class HeadGradients(Gradients):
    """`head_gradients/`: the columns of `gradients`, with respect to the output embeddings.

    `norm` is the length of the sketch.
    """

    name: ClassVar[str] = "head_gradients"
    artifacts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "head_gradients": ("signals/head_gradients",)
    }
