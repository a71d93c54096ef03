"""Compare images with their conversations by an image-text encoder."""

from __future__ import annotations

from typing import Any, Literal

from lightning import LightningModule
from torch import Tensor

from presel_lightning.models.checkpoint import describe_checkpoint
from presel_lightning.models.image_text import image_vectors, load_image_text, text_vectors
from presel_lightning.tasks.embed import normalised


class Similarity(LightningModule):
    """Cosine of an image and the text of its conversation under CLIP or SigLIP.

    Args:
        checkpoint: folder or hub id of an image-text encoder with two towers, or
            `quickstart-matcher`.
        dtype: of the weights and of the pass; `auto` for bfloat16 on a GPU and float32 on a CPU.

    Source: Radford et al., "Learning Transferable Visual Models From Natural Language
    Supervision", ICML 2021.
    """

    def __init__(
        self,
        checkpoint: str = "openai/clip-vit-large-patch14-336",
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    ) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        self.dtype_name = dtype
        self.encoder: Any = None

    def fingerprint(self) -> dict[str, Any]:
        """What defines the values."""
        return {"checkpoint": describe_checkpoint(self.checkpoint), "dtype": self.dtype_name}

    def configure_model(self) -> None:
        """Load the encoder, on every rank, when the Trainer asks for it."""
        if self.encoder is not None:
            return
        automatic = "float32" if self.trainer.strategy.root_device.type == "cpu" else "bfloat16"
        dtype = automatic if self.dtype_name == "auto" else self.dtype_name
        self.encoder = load_image_text(self.checkpoint, dtype)

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """Compute both vectors of each sample of a block, and their cosine."""
        pixels = normalised(batch["crops"], batch["scale"], batch["shift"])
        dtype = next(self.encoder.parameters()).dtype
        image = image_vectors(self.encoder, pixels.to(dtype))  # (B, D)
        text = text_vectors(self.encoder, batch["tokens"])  # (B, D)
        similarity = (image * text).sum(dim=1)
        return {"similarity": similarity, "image": image.half(), "text": text.half()}

    def configure_optimizers(self) -> None:
        """Nothing is trained."""
