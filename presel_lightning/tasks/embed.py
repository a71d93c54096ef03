"""Embed images: one frozen pass that gives each image the vector it is clustered by."""

from __future__ import annotations

from typing import Any, Literal

import torch
from lightning import LightningModule
from torch import Tensor
from torch.nn.functional import normalize

from presel_lightning.models.image_encoder import (
    describe_encoder,
    load_encoder,
    load_encoder_processor,
)

AUTO_ENCODER = "auto"
"""Checkpoint that stands for the best encoder that is there; a recipe replaces it."""


class Embed(LightningModule):
    """One vector of every image, L2-normalised: DINOv2's [CLS] are PreSel's features.

    Args:
        checkpoint: folder or hub id of a vision encoder ([CLS] where it has one, else what it
            pools; of CLIP and SigLIP the vision tower), `efficientnet-lite0`, `quickstart-encoder`, or
            `auto`: facebook/dinov2-base where the hub or its cache has it, else
            `efficientnet-lite0` (extra `photos`).
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

    @property
    def processor(self) -> Any:  # noqa: ANN401 - one class a model
        """The image processor of the encoder."""
        return load_encoder_processor(self.checkpoint)

    def fingerprint(self, device: str) -> dict[str, Any]:
        """What defines the features.

        Args:
            device: kind of the one that computes them, such as `cuda`.
        """
        return {"checkpoint": describe_encoder(self.checkpoint), "dtype": self.dtype_on(device)}

    def dtype_on(self, device: str) -> str:
        """The number format on a kind of device."""
        automatic = "float32" if device == "cpu" else "bfloat16"
        return automatic if self.dtype_name == "auto" else self.dtype_name

    def configure_model(self) -> None:
        """Load the encoder, on every rank, when the Trainer asks for it."""
        if self.encoder is not None:
            return
        device = self.trainer.strategy.root_device.type
        self.encoder = load_encoder(self.checkpoint, self.dtype_on(device))
        if self.compile_encoder and device != "cpu":
            self.encoder = torch.compile(self.encoder)

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Normalise and embed one block: crops (B, 3, H, W), of bytes, to features (B, D).

        Features are kept in half precision where the pass was.
        """
        pixels = normalised(batch["crops"], batch["scale"], batch["shift"])
        dtype = next(self.encoder.parameters()).dtype
        features = normalize(self.encoder(pixels.to(dtype)).float(), dim=-1)  # (B, D)
        return {"features": features if dtype == torch.float32 else features.half()}

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
