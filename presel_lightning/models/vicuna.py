"""LLaVA-1.5's prompt as a chat template, for the programs that a checkpoint is handed on to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import LlavaProcessor

IMAGE_TOKEN = "<image>"

CHAT_TEMPLATE = """\
{{- "A chat between a curious user and an artificial intelligence assistant. The assistant \
gives helpful, detailed, and polite answers to the user's questions. " }}
{%- for message in messages %}
{%- set plain = message.content is string %}
{%- set parts = [{'type': 'text', 'text': message.content}] if plain else message.content %}
{%- set images = parts | selectattr('type', 'equalto', 'image') | list | length %}
{%- set text = parts | selectattr('type', 'equalto', 'text') | map(attribute='text') | join(' ') %}
{%- if message.role == 'assistant' %}
{{- ' ' }}{% generation %}{{- text + eos_token }}{% endgeneration %}
{%- else %}
{{- 'USER: ' + ('<image>\\n' * images + text) | trim + ' ASSISTANT:' }}
{%- endif %}
{%- endfor %}"""


def save_llava_processor(folder: Path, tokenizer: Any, images: Any, config: Any) -> None:  # noqa: ANN401
    """Write what AutoProcessor, AutoTokenizer and AutoImageProcessor each look for.

    Args:
        folder: of the weights.
        tokenizer: with an `<image>` token.
        images: image processor.
        config: of the LLaVA.
    """
    processor: Any = LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=config.vision_config.patch_size,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        num_additional_image_tokens=1,  # [CLS]
        chat_template=CHAT_TEMPLATE,
    )
    processor.save_pretrained(folder)
    images.save_pretrained(folder)
