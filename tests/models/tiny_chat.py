"""Tiny models with a processor of their own, of Qwen2.5-VL's and LLaVA-OneVision's kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers import models as kinds
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessorPil,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen2VLImageProcessorPil,
    SiglipVisionConfig,
)
from transformers.image_processing_utils import BaseImageProcessor

from presel_lightning.models.chat import chat_batch
from presel_lightning.records import Turn
from presel_lightning.run.files import write_json

SPECIAL = ["<|end|>", "<|im_start|>", "<|im_end|>", "<|image_pad|>", "<|video_pad|>"]
SPECIAL += ["<|vision|>", "<|vend|>", "<image>", "<video>"]
CHAT_ML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}"
    "{% if c.type == 'image' %}<|vision|><|image_pad|><|vend|>{% else %}{{ c.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As Qwen writes: nothing marks the answers."""
MARKED = (
    "{% for m in messages %}<|im_start|>{{ m.role + ' ' }}"
    "{% for c in m.content if c.type == 'image' %}<image>{{ '\n' }}{% endfor %}"
    "{% for c in m.content if c.type == 'text' %}{% if m.role == 'assistant' %}"
    "{% generation %}{{ '\n' + c.text }}{% endgeneration %}{% else %}{{ '\n' + c.text }}"
    "{% endif %}{% endfor %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As LLaVA-OneVision writes: answers are marked, their ends are not, and the invitation to answer
differs from what is written (by a space)."""


def tokenizer(template: str) -> Any:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *letters])}
    inner = Tokenizer(kinds.BPE(vocabulary, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    made: Any = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|im_end|>")
    made.pad_token = "<|end|>"
    made.add_special_tokens({"extra_special_tokens": SPECIAL[1:]})
    made.chat_template = template
    return made


TEXT: dict[str, Any] = {
    "vocab_size": 9 + 256,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
    "bos_token_id": None,
    "eos_token_id": 2,
}


def qwen() -> tuple[Any, BaseImageProcessor, str]:
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 4,
        "patch_size": 4,
        "window_size": 16,
        "out_hidden_size": 32,
        "fullatt_block_indexes": [1],
    }
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    config = Qwen2_5_VLConfig(
        vision_config=vision,
        text_config={**TEXT, "rope_parameters": rope},
        image_token_id=3,
        video_token_id=4,
        vision_start_token_id=5,
        vision_end_token_id=6,
    )
    images = Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, size={"shortest_edge": 64, "longest_edge": 1024}
    )
    return Qwen2_5_VLForConditionalGeneration(config), images, CHAT_ML


def onevision() -> tuple[Any, BaseImageProcessor, str]:
    vision = SiglipVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=16,
        patch_size=4,
        vision_use_head=False,
    )
    grid = [[16, 16], [16, 32], [32, 16]]
    config = LlavaOnevisionConfig(
        vision_config=vision,
        text_config=Qwen2Config(**TEXT),
        image_token_index=7,
        video_token_index=8,
        image_grid_pinpoints=grid,
    )
    images = LlavaOnevisionImageProcessorPil(
        size={"height": 16, "width": 16}, image_grid_pinpoints=grid
    )
    return LlavaOnevisionForConditionalGeneration(config), images, MARKED


MODELS: dict[str, Callable[[], tuple[Any, BaseImageProcessor, str]]] = {
    "qwen2_5_vl": qwen,
    "llava_onevision": onevision,
}


def write_chat_model(name: str, place: Path) -> str:
    """A random model of a kind, with its tokenizer, image processor and chat template."""
    torch.manual_seed(0)
    model, images, template = MODELS[name]()
    model.save_pretrained(place)
    tokenizer(template).save_pretrained(place)
    images.save_pretrained(place)
    if name == "llava_onevision":
        settings = {"num_image_tokens": 16, "vision_feature_select_strategy": "full"}
        write_json(place / "processor_config.json", settings)
    return str(place)


def encode_chat(
    processor: Any,
    turns: Sequence[Turn],
    image: Image | list[Image] | None,
    *,
    with_question: bool = True,
) -> dict[str, Any]:
    """One conversation, as a batch of one."""
    batch: dict[str, Any] = chat_batch(processor, [(turns, image)], with_question=with_question)
    return batch
