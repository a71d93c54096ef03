"""LLaVA-1.5's prompt as a chat template, for programs that read the exported checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import LlavaProcessor

from presel_lightning.run.files import read_json, write_json

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


def chat_template(tokenizer: Any) -> str:  # noqa: ANN401 - transformers has one class a model
    r"""Write the template by which a tokenizer gives the ids of training.

    LLaVA tokenizes what follows an image alone, as a text of its own: with the space that
    sentencepiece puts in front of a text. Where the tokenizer puts it in front of the whole prompt
    only, the template writes it out (`<image> \n`).

    Args:
        tokenizer: with an `<image>` token.
    """
    alone, spaced = (_ids(tokenizer, text) for text in ("\nUSER", f"{IMAGE_TOKEN} \nUSER"))
    if spaced[1:] != alone:
        return CHAT_TEMPLATE
    return CHAT_TEMPLATE.replace("| trim", f"| trim | replace('{IMAGE_TOKEN}', '{IMAGE_TOKEN} ')")


def has_class_token(vision: Any) -> bool:  # noqa: ANN401 - transformers has one class a model
    """Whether the first of a vision tower's features stands for no patch, by its configuration."""
    return not vision.model_type.startswith("siglip")


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
        num_additional_image_tokens=int(has_class_token(config.vision_config)),
        chat_template=chat_template(tokenizer),
    )
    processor.save_pretrained(folder)
    images.save_pretrained(folder)
    settings = read_json(folder / "tokenizer_config.json")
    if settings["tokenizer_class"] == "TokenizersBackend":
        # the name that transformers 4 has for it, and 5 knows too
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
        write_json(folder / "tokenizer_config.json", settings)


def _ids(tokenizer: Any, text: str) -> list[int]:  # noqa: ANN401
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
