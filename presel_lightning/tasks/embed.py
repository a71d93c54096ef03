"""Embed images: one frozen pass that gives each image the vector it is clustered by."""

from __future__ import annotations

from typing import Any, Literal

import torch
from lightning import LightningModule
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoModel

from presel_lightning.models.checkpoint import describe_checkpoint, resolve_checkpoint


class Embed(LightningModule):
    """DINOv2's [CLS] of every image, L2-normalised: PreSel's features.

    Args:
        checkpoint: folder or hub id of a vision encoder, or `quickstart-encoder`.
        dtype: of the weights and of the pass; `auto` for bfloat16 on a GPU and float32 on a CPU.
        compile: let `torch.compile` make the encoder faster on a GPU, at the cost of minutes before
            the first block; for some ten thousand images or more. Does nothing on a CPU.

    Source: PreSel, section 3.3 (features of DINOv2 ViT-B).
    """

    def __init__(
        self,
        checkpoint: str = "facebook/dinov2-base",
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        self.dtype_name = dtype
        self.compile_encoder = compile
        self.encoder: Any = None

    def fingerprint(self, device: str) -> dict[str, Any]:
        """What defines the features.

        Args:
            device: kind of the one that computes them, such as `cuda`.
        """
        return {"checkpoint": describe_checkpoint(self.checkpoint), "dtype": self.dtype_on(device)}

    def dtype_on(self, device: str) -> str:
        """The number format on a kind of device."""
        automatic = "float32" if device == "cpu" else "bfloat16"
        return automatic if self.dtype_name == "auto" else self.dtype_name

    def configure_model(self) -> None:
        """Load the encoder, on every rank, when the Trainer asks for it."""
        if self.encoder is not None:
            return
        device = self.trainer.strategy.root_device.type
        place = resolve_checkpoint(self.checkpoint)
        self.encoder = AutoModel.from_pretrained(place, dtype=self.dtype_on(device)).eval()
        self.encoder.requires_grad_(False)
        if self.compile_encoder and device != "cpu":
            self.encoder = torch.compile(self.encoder)

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Normalise and embed one block: crops (B, 3, H, W), of bytes, to features (B, D).

        Features are kept in half precision where the pass was.
        """
        pixels = normalised(batch["crops"], batch["scale"], batch["shift"])
        hidden = self.encoder(pixel_values=pixels.to(self.encoder.dtype)).last_hidden_state
        features = normalize(hidden[:, 0].float(), dim=-1)  # (B, D)
        return {"features": features if self.encoder.dtype == torch.float32 else features.half()}

    def configure_optimizers(self) -> None:
        """Nothing is trained."""


def normalised(crops: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Pixel values of bytes, channel by channel: x * scale + shift, in float32.

    Args:
        crops: (B, 3, H, W).
        scale: (3,).
        shift: (3,).
    """
    return crops.float() * scale[:, None, None] + shift[:, None, None]
