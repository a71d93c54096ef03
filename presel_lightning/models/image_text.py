"""Frozen image-text encoders (CLIP, SigLIP): one vector of an image, one of a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn.functional import normalize
from transformers import MODEL_MAPPING, AutoConfig, AutoModel, AutoTokenizer

from presel_lightning.errors import UserError
from presel_lightning.models.checkpoint import resolve_checkpoint
from presel_lightning.models.llava_processor import load_image_processor


class TextReader:
    """Writes texts as the tokens that a text tower reads: padded and truncated to its places.

    Args:
        checkpoint: folder or hub id of the model.
        places: tokens that the text tower reads.
    """

    def __init__(self, checkpoint: str, places: int) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(resolve_checkpoint(checkpoint))
        self.places = places

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Tokens of texts, and their mask where the model wants one, (B, L) each."""
        made: dict[str, Tensor] = dict(
            self.tokenizer(
                list(texts),
                padding="max_length",
                truncation=True,
                max_length=self.places,
                return_tensors="pt",
            )
        )
        return {name: made[name] for name in ("input_ids", "attention_mask") if name in made}


def load_readers(checkpoint: str) -> tuple[Any, TextReader]:
    """Load the image processor and the text reader of an image-text encoder.

    Raises:
        UserError: the model has no text tower.
    """
    config = AutoConfig.from_pretrained(resolve_checkpoint(checkpoint))
    text = getattr(config, "text_config", None)
    kind = MODEL_MAPPING.get(type(config), None)
    compares = kind is None or hasattr(kind, "get_text_features")
    if text is None or not hasattr(text, "max_position_embeddings") or not compares:
        raise UserError(
            f"stages.similarity.model.checkpoint {checkpoint!r} is of type {config.model_type!r}, which "
            "has no text tower; give a CLIP or SigLIP, such as openai/clip-vit-large-patch14-336"
        )
    return load_image_processor(checkpoint), TextReader(checkpoint, text.max_position_embeddings)


def load_image_text(checkpoint: str, dtype: str) -> Any:  # noqa: ANN401 - transformers' own class
    """Load an image-text encoder, frozen and in eval mode."""
    model = AutoModel.from_pretrained(resolve_checkpoint(checkpoint), dtype=dtype)
    return model.eval().requires_grad_(False)


def image_vectors(model: Any, pixels: Tensor) -> Tensor:  # noqa: ANN401
    """Encode pixels (B, 3, H, W) to vectors of unit length, (B, D) float32."""
    return _unit(model.get_image_features(pixel_values=pixels))


def text_vectors(model: Any, tokens: dict[str, Tensor]) -> Tensor:  # noqa: ANN401
    """Encode the tokens of `TextReader` to vectors of unit length, (B, D) float32."""
    return _unit(model.get_text_features(**tokens))


def _unit(found: Any) -> Tensor:  # noqa: ANN401 - a tensor, or an output of transformers
    vectors = found if isinstance(found, Tensor) else found.pooler_output
    return normalize(vectors.float(), dim=-1)
