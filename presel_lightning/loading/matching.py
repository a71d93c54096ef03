"""Samples of a shard to what an image encoder sees, and an image-text encoder compares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from presel_lightning.loading.datasets import normalisation
from presel_lightning.loading.shard_blocks import Batch, Seen


@dataclass(frozen=True)
class Cropping:
    """Crops of the images.

    Attributes:
        image_processor: of the encoder.
    """

    image_processor: Any

    def __call__(self, seen: Sequence[Seen]) -> Batch:
        """Crops (B, 3, H, W), with the scale and shift (3,) that normalise them."""
        made = self.image_processor(
            images=[each.image for each in seen],
            do_rescale=False,
            do_normalize=False,
            return_tensors="pt",
        )
        scale, shift = normalisation(self.image_processor)
        return {"crops": torch.as_tensor(made["pixel_values"]), "scale": scale, "shift": shift}


@dataclass(frozen=True)
class Matching(Cropping):
    """Crops of the images, and tokens of the captions.

    Attributes:
        reader: texts to tokens (B, L).
    """

    reader: Callable[[Sequence[str]], dict[str, Tensor]]

    def __call__(self, seen: Sequence[Seen]) -> Batch:
        """Crops, scale and shift, and tokens."""
        return {**super().__call__(seen), "tokens": self.reader([each.caption for each in seen])}
