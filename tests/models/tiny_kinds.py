"""Tiny models of the architectures that have a config of their own, and of Gemma 3's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers import models as kinds
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessorPil,
    GotOcr2ImageProcessorPil,
    InternVLConfig,
    InternVLForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessorPil,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessorPil,
)

from presel_lightning.run.files import write_json

CHAT_ML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}"
    "{% if c.type == 'image' %}IMAGE{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>"
    "{{ 'model' if m.role == 'assistant' else m.role }}\n{% for c in m.content %}"
    "{% if c.type == 'image' %}<start_of_image>{% else %}{{ c.text | trim }}{% endif %}{% endfor %}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
SMOL = (
    "<|im_start|>{% for m in messages %}{{ m.role | capitalize }}"
    "{% if m.content[0].type == 'image' %}:{% else %}: {% endif %}{% for c in m.content %}"
    "{% if c.type == 'image' %}<image>{% else %}{{ c.text }}{% endif %}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
TEXT: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
EYES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
Made = tuple[Any, Any, Any, dict[str, Any]]


def tokenizer(special: list[str], template: str, end: str, **named: str) -> Any:
    """One letter a token; the first special token pads, the second begins a text."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(kinds.BPE({t: i for i, t in enumerate([*special, *letters])}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(special)
    marks = {"eos_token": end, "pad_token": special[0], "bos_token": special[1]}
    made: Any = PreTrainedTokenizerFast(tokenizer_object=inner, extra_special_tokens=named, **marks)
    made.chat_template = template
    return made


def qwen3_vl() -> Made:
    marks = ["<|end|>", "<|bos|>", "<|im_start|>", "<|im_end|>"]
    marks += ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    names = ["vision_start_token", "vision_end_token", "image_token", "video_token"]
    template = CHAT_ML.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4}
    vision |= {"patch_size": 4, "out_hidden_size": 32, "num_position_embeddings": 64}
    config = Qwen3VLConfig(
        text_config={**TEXT, "head_dim": 8, "rope_parameters": {**rope, "mrope_interleaved": True}},
        vision_config={**vision, "deepstack_visual_indexes": [0]},
        image_token_id=6,
        video_token_id=7,
        vision_start_token_id=4,
        vision_end_token_id=5,
    )
    size = {"shortest_edge": 64, "longest_edge": 1024}
    images = Qwen2VLImageProcessorPil(patch_size=4, merge_size=2, size=size)
    own = tokenizer(marks, template, "<|im_end|>", **dict(zip(names, marks[4:], strict=True)))
    return Qwen3VLForConditionalGeneration(config), own, images, {}


def gemma3() -> Made:
    marks = ["<pad>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"]
    marks += ["<start_of_image>", "<image_soft_token>", "<end_of_image>"]
    names = ["boi_token", "image_token", "eoi_token"]
    config = Gemma3Config(
        text_config={**TEXT, "head_dim": 8},
        vision_config={**EYES, "image_size": 16, "patch_size": 4, "vision_use_head": False},
        mm_tokens_per_image=4,
        image_token_index=6,
        boi_token_index=5,
        eoi_token_index=7,
    )
    images = Gemma3ImageProcessorPil(size={"height": 16, "width": 16}, image_seq_length=4)
    own = tokenizer(marks, GEMMA, "<eos>", **dict(zip(names, marks[5:], strict=True)))
    settings = {"image_seq_length": 4, "processor_class": "Gemma3Processor"}
    return Gemma3ForConditionalGeneration(config), own, images, settings


def smolvlm() -> Made:
    marks = ["<pad>", "<bos>", "<end_of_utterance>", "<image>", "<fake_token_around_image>"]
    marks += ["<global-img>", "<|im_start|>"]
    marks += [f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)]
    names = ["end_of_utterance_token", "image_token", "fake_image_token", "global_image_token"]
    plain: dict[str, Any] = {"pad_token_id": 0}
    config = SmolVLMConfig(
        text_config={**TEXT, "model_type": "llama", "pad_token_id": 0},
        vision_config={**EYES, "image_size": 16, "patch_size": 4},
        scale_factor=2,
        image_token_id=3,
        **plain,
    )
    images = SmolVLMImageProcessorPil(
        size={"longest_edge": 32}, max_image_size={"longest_edge": 16}, do_image_splitting=True
    )
    own = tokenizer(marks, SMOL, marks[2], **dict(zip(names, marks[2:6], strict=True)))
    settings = {"image_seq_len": 4, "processor_class": "SmolVLMProcessor"}
    return SmolVLMForConditionalGeneration(config), own, images, settings


def internvl() -> Made:
    marks = ["<|end|>", "<|bos|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>"]
    marks += ["<IMG_CONTEXT>", "<video>"]
    names = ["start_image_token", "end_image_token", "context_image_token", "video_token"]
    config = InternVLConfig(
        vision_config={**EYES, "image_size": [16, 16], "patch_size": [4, 4]},
        text_config={**TEXT, "model_type": "qwen2"},
        image_token_id=6,
        downsample_ratio=0.5,
        image_seq_length=4,
    )
    images = GotOcr2ImageProcessorPil(
        size={"height": 16, "width": 16}, crop_to_patches=True, max_patches=4
    )
    template = CHAT_ML.replace("IMAGE", "<IMG_CONTEXT>\n")
    own = tokenizer(marks, template, "<|im_end|>", **dict(zip(names, marks[4:], strict=True)))
    settings = {"image_seq_length": 4, "processor_class": "InternVLProcessor"}
    return InternVLForConditionalGeneration(config), own, images, settings


KINDS: dict[str, Callable[[], Made]] = {
    "qwen3_vl": qwen3_vl,
    "smolvlm": smolvlm,
    "internvl": internvl,
    "gemma3": gemma3,
}


def write_kind(name: str, place: Path) -> str:
    """A random model of an architecture, with all that lies beside its weights."""
    torch.manual_seed(0)
    model, own, images, settings = KINDS[name]()
    model.save_pretrained(place)
    own.save_pretrained(place)
    images.save_pretrained(place)
    if settings:
        write_json(place / "processor_config.json", settings)
    return str(place)
