"""Activations of five layers of every sample, under the pre-instruction model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from presel_lightning.signals.base import ColumnSignal


class LayerFeatures(ColumnSignal):
    """`layer_features/`: columns over the samples of the pool that have an instruction.

    - `features`: (D,) in half precision, of length 1: of the output of self-attention at five
      layers the mean over the tokens of the image, then that over the tokens of the text, each by
      tanh and normalized;
    - `finite`: 1 where all of them are finite.
    """

    name: ClassVar[str] = "layer_features"
    artifacts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "layer_features": ("signals/layer_features",)
    }
