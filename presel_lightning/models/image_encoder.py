"""Frozen image encoders: pixels in, one vector an image out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel

from presel_lightning.models import efficientnet
from presel_lightning.models.checkpoint import describe_checkpoint, resolve_checkpoint
from presel_lightning.models.llava_processor import load_image_processor

CLASS_TOKENS = ("cls_token", "class_embedding")
"""Names of the parameter of a [CLS] token: ViT and DINOv2, CLIP."""


class ImageEncoder(nn.Module):
    """One vector for each image: [CLS], or what the model pools where it has no such token.

    Args:
        model: vision model of transformers; of a model with a text tower too, its vision tower.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = getattr(model, "vision_model", model)
        names = [name.rpartition(".")[2] for name, _ in self.model.named_parameters()]
        self.has_class_token = any(name in CLASS_TOKENS for name in names)

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode pixels (B, 3, H, W) to vectors (B, D)."""
        found = self.model(pixel_values=pixels)
        if self.has_class_token:
            vectors: Tensor = found.last_hidden_state[:, 0]
        elif getattr(found, "pooler_output", None) is not None:
            vectors = found.pooler_output.flatten(1)
        else:
            hidden: Tensor = found.last_hidden_state
            # (B, D, h, w) of a convolutional network, (B, L, D) of another
            vectors = hidden.flatten(2).mean(2) if hidden.dim() == 4 else hidden.mean(1)
        return vectors


def load_encoder(checkpoint: str, dtype: str) -> nn.Module:
    """Load an encoder, frozen and in eval mode; `forward` takes pixels (B, 3, H, W) to (B, D).

    Args:
        checkpoint: folder or hub id of any vision model of transformers, a shipped model, or
            `efficientnet-lite0`.
        dtype: number format of the weights.

    Raises:
        UserError: the package of `efficientnet-lite0` is missing.
    """
    if checkpoint == efficientnet.NAME:
        encoder: nn.Module = efficientnet.load()
        encoder = encoder.to(getattr(torch, dtype))
    else:
        place = resolve_checkpoint(checkpoint)
        encoder = ImageEncoder(AutoModel.from_pretrained(place, dtype=dtype))
    return encoder.eval().requires_grad_(False)


def load_encoder_processor(checkpoint: str) -> Any:  # noqa: ANN401 - one class a model
    """Load the image processor of an encoder."""
    if checkpoint == efficientnet.NAME:
        return efficientnet.processor()
    return load_image_processor(checkpoint)


def describe_encoder(checkpoint: str) -> str:
    """Name an encoder by its content, for fingerprints."""
    if checkpoint == efficientnet.NAME:
        return efficientnet.describe()
    return describe_checkpoint(checkpoint)
