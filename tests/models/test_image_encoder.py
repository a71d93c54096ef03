"""Vectors of image encoders, against transformers' own outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    ConvNextConfig,
    ConvNextModel,
    Dinov2Config,
    Dinov2Model,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from presel_lightning.models import efficientnet
from presel_lightning.models.image_encoder import load_encoder
from tests.optional import require

TINY: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
VISION = {**TINY, "image_size": 32, "patch_size": 16}
PIXELS = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def class_token(model: Any) -> Any:
    return model(pixel_values=PIXELS).last_hidden_state[:, 0]


def pooled(model: Any) -> Any:
    return model(pixel_values=PIXELS).pooler_output.flatten(1)


def models() -> dict[str, tuple[Any, Any]]:
    torch.manual_seed(0)
    clip = CLIPModel(
        CLIPConfig(
            text_config={**TINY, "vocab_size": 32, "eos_token_id": 1},
            vision_config=VISION,
            projection_dim=8,
        )
    )
    return {
        "DINOv2": (Dinov2Model(Dinov2Config(**VISION)), class_token),
        "CLIP": (clip, lambda model: class_token(model.vision_model)),
        "SigLIP": (SiglipVisionModel(SiglipVisionConfig(**VISION)), pooled),
        "ConvNeXt": (
            ConvNextModel(ConvNextConfig(hidden_sizes=[8, 8, 8, 16], depths=[1] * 4)),
            pooled,
        ),
    }


@pytest.mark.parametrize("name", ["DINOv2", "CLIP", "SigLIP", "ConvNeXt"])
@torch.no_grad()
def test_load_encoder_gives_class_token_or_pooled_vector(name: str, tmp_path: Path) -> None:
    model, expected = models()[name]
    model.eval().save_pretrained(tmp_path)
    vectors = load_encoder(str(tmp_path), "float32")(PIXELS)
    assert vectors.shape == (3, 16)
    torch.testing.assert_close(vectors, expected(model))


@torch.no_grad()
def test_load_encoder_efficientnet_is_its_classifiers_input() -> None:
    require("efficientnet_lite_pytorch")
    encoder = load_encoder(efficientnet.NAME, "float32")
    pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    vectors = encoder(pixels)
    assert vectors.shape == (2, efficientnet.WIDTH)
    network: Any = encoder.network
    torch.testing.assert_close(network._fc(vectors), network(pixels), rtol=1e-4, atol=1e-4)
