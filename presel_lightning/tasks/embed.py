"""Embed images: one frozen pass that gives each image the vector it is clustered by."""

from __future__ import annotations

from typing import Any

from lightning import LightningModule
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoModel

from presel_lightning.models.checkpoint import describe_checkpoint, resolve_checkpoint


class Embed(LightningModule):
    """DINOv2's [CLS] of every image, L2-normalised: PreSel's features.

    Args:
        checkpoint: folder or hub id of a vision encoder, or `quickstart-encoder`.
        dtype: of the weights and of the pass; `auto` for the checkpoint's own.

    Source: PreSel, section 3.3 (features of DINOv2 ViT-B).
    """

    def __init__(self, checkpoint: str = "facebook/dinov2-base", dtype: str = "auto") -> None:
        super().__init__()
        self.checkpoint = checkpoint
        self.dtype_name = dtype
        self.encoder: Any = None

    def fingerprint(self) -> dict[str, Any]:
        """What defines the features."""
        return {"checkpoint": describe_checkpoint(self.checkpoint), "dtype": self.dtype_name}

    def configure_model(self) -> None:
        """Load the encoder, on every rank, when the Trainer asks for it."""
        if self.encoder is None:
            place = resolve_checkpoint(self.checkpoint)
            self.encoder = AutoModel.from_pretrained(place, dtype=self.dtype_name).eval()
            self.encoder.requires_grad_(False)

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Embed one block of images: pixel_values (B, 3, H, W) to features (B, D)."""
        pixels = batch["pixel_values"].to(self.encoder.dtype)
        hidden = self.encoder(pixel_values=pixels).last_hidden_state  # (B, T, D)
        return {"features": normalize(hidden[:, 0].float(), dim=-1)}

    def configure_optimizers(self) -> None:
        """Nothing is trained."""
