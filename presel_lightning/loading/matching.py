"""Samples of a shard to what an image-text encoder compares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from presel_lightning.loading.datasets import normalisation
from presel_lightning.loading.shard_blocks import Batch, Seen


@dataclass(frozen=True)
class Matching:
    """Crops of the images, and tokens of the captions.

    Attributes:
        image_processor: of the encoder.
        reader: texts to tokens (B, L).
    """

    image_processor: Any
    reader: Callable[[Sequence[str]], dict[str, Tensor]]

    def __call__(self, seen: Sequence[Seen]) -> Batch:
        """Crops (B, 3, H, W), with the scale and shift (3,) that normalise them, and tokens."""
        made = self.image_processor(
            images=[each.image for each in seen],
            do_rescale=False,
            do_normalize=False,
            return_tensors="pt",
        )
        scale, shift = normalisation(self.image_processor)
        crops = torch.as_tensor(made["pixel_values"])
        tokens = self.reader([each.caption for each in seen])
        return {"crops": crops, "scale": scale, "shift": shift, "tokens": tokens}
