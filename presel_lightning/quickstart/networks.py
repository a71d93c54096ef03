"""The tiny LLaVA, DINOv2 and SigLIP before any training, and their image processors."""

from __future__ import annotations

import torch
from transformers import (
    BitImageProcessorPil,
    CLIPVisionConfig,
    Dinov2Config,
    Dinov2Model,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaImageProcessorPil,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    SiglipTextConfig,
    SiglipVisionConfig,
)

from presel_lightning.quickstart.scenes import CELL, SIZE
from presel_lightning.quickstart.tokenizer import BOS_ID, EOS_ID, IMAGE_ID, PAD_ID

IMAGE_TOKENS = (SIZE // CELL) ** 2
"""One token per cell of the grid: 9."""
MEAN = STD = (0.5, 0.5, 0.5)


def build_llava(vocabulary: int) -> LlavaForConditionalGeneration:
    """Build the untrained LLaVA: a CLIP-like tower (96 x 3), a projector, a Llama (128 x 3)."""
    vision = CLIPVisionConfig(
        hidden_size=96,
        intermediate_size=384,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=SIZE,
        patch_size=CELL,
        projection_dim=96,
    )
    text = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=344,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        # at this width the usual 0.02 delays the first attention patterns by hundreds of steps
        initializer_range=0.08,
        bos_token_id=BOS_ID,
        eos_token_id=EOS_ID,
        pad_token_id=PAD_ID,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=IMAGE_ID,
        image_seq_length=IMAGE_TOKENS,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    return LlavaForConditionalGeneration(config)


def build_encoder() -> Dinov2Model:
    """Build the untrained DINOv2: 96 x 3, patches of 8 pixels."""
    return Dinov2Model(
        Dinov2Config(
            hidden_size=96,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=SIZE,
            patch_size=CELL // 2,
        )
    )


TEXT_TOKENS = 64
"""Tokens that the SigLIP reads of a text; shorter ones are padded, as its pooling is by place."""


def build_matcher(vocabulary: int) -> SiglipModel:
    """Build the untrained SigLIP: an image tower and a text tower, 96 x 2 both."""
    text = SiglipTextConfig(
        hidden_size=96,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        vocab_size=vocabulary,
        max_position_embeddings=TEXT_TOKENS,
        projection_size=96,
        bos_token_id=BOS_ID,
        eos_token_id=EOS_ID,
        pad_token_id=PAD_ID,
    )
    vision = SiglipVisionConfig(
        hidden_size=96,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=SIZE,
        patch_size=CELL // 2,
    )
    return SiglipModel(SiglipConfig(text_config=text, vision_config=vision))


def matcher_processor() -> SiglipImageProcessorPil:
    """Resize to 48 x 48 and normalize."""
    side = {"height": SIZE, "width": SIZE}
    return SiglipImageProcessorPil(size=side, image_mean=list(MEAN), image_std=list(STD))


def llava_processor() -> LlavaImageProcessorPil:
    """Pad to a square with the mean color, resize to 48 x 48, normalize."""
    side = {"height": SIZE, "width": SIZE}
    return LlavaImageProcessorPil(
        do_pad=True, size=side, crop_size=side, image_mean=list(MEAN), image_std=list(STD)
    )


def encoder_processor() -> BitImageProcessorPil:
    """Resize to 48 x 48 and normalize."""
    side = {"height": SIZE, "width": SIZE}
    return BitImageProcessorPil(
        size=side, do_center_crop=False, image_mean=list(MEAN), image_std=list(STD)
    )


def to_pixels(images: torch.Tensor) -> torch.Tensor:
    """Normalize uint8 images of the right size, (N, 48, 48, 3), as both processors do.

    Returns:
        (N, 3, 48, 48), float32.
    """
    return (images.permute(0, 3, 1, 2).float() / 255 - MEAN[0]) / STD[0]
