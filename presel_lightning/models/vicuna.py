"""The prompts of training as chat templates, for programs that read the exported checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from transformers import LlavaProcessor

from presel_lightning.run.files import read_json, write_json

IMAGE_TOKEN = "<image>"


class Prompt(NamedTuple):
    """What is written around questions and answers: `data.template`, for other programs."""

    opening: str
    user: str
    assistant: str
    answer: str = ""
    stop: str = "eos_token"
    """As jinja: a variable or a quoted text."""


VICUNA = Prompt(
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions. ",
    "USER: ",
    " ASSISTANT:",
    " ",
)
HEADER = "<|start_header_id|>{}<|end_header_id|>\\n\\n"
PROMPTS = {
    "vicuna_v1": VICUNA,
    "vicuna_bare": VICUNA._replace(opening=""),
    "llama_3": Prompt(
        HEADER.format("system")
        + "You are a helpful language and vision assistant. You are able to "
        "understand the visual content that the user provides, and assist the user with a variety of "
        "tasks using natural language.<|eot_id|>",
        HEADER.format("user"),
        "<|eot_id|>" + HEADER.format("assistant"),
        stop="'<|eot_id|>'",
    ),
}
"""Prompts by the name that `data.template` has for them."""


def chat_template(tokenizer: Any, name: str = "vicuna_v1") -> str:  # noqa: ANN401 - transformers has one class a model
    r"""Write the template by which a tokenizer gives the ids of training.

    LLaVA tokenizes what follows an image alone, as a text of its own: with the space that
    sentencepiece puts in front of a text. Where the tokenizer puts it in front of the whole prompt
    only, the template writes it out (`<image> \n`), and so it does with the token that begins a text
    where the tokenizer adds none.

    Args:
        tokenizer: with an `<image>` token.
        name: of the prompt; that of LLaVA-1.5 for any that is not in `PROMPTS`, such as `auto`.
    """
    prompt = PROMPTS.get(name, VICUNA)
    alone, spaced = (_ids(tokenizer, text) for text in ("\nUSER", f"{IMAGE_TOKEN} \nUSER"))
    spacing = f" | replace('{IMAGE_TOKEN}', '{IMAGE_TOKEN} ')" if spaced[1:] == alone else ""
    begins = tokenizer.bos_token_id in (None, *tokenizer("USER")["input_ids"][:1])
    first = "" if begins else "bos_token + "
    return f"""\
{{{{- {first}"{prompt.opening}" }}}}
{{%- for message in messages %}}
{{%- set plain = message.content is string %}}
{{%- set parts = [{{'type': 'text', 'text': message.content}}] if plain else message.content %}}
{{%- set images = parts | selectattr('type', 'equalto', 'image') | list | length %}}
{{%- set text = parts | selectattr('type', 'equalto', 'text') | map(attribute='text') | join(' ') %}}
{{%- if message.role == 'assistant' %}}
{{{{- '{prompt.answer}' }}}}{{% generation %}}{{{{- text + {prompt.stop} }}}}{{% endgeneration %}}
{{%- else %}}
{{{{- '{prompt.user}' + ('{IMAGE_TOKEN}\\n' * images + text) | trim{spacing} + '{prompt.assistant}' }}}}
{{%- endif %}}
{{%- endfor %}}"""


def has_class_token(vision: Any) -> bool:  # noqa: ANN401 - transformers has one class a model
    """Whether the first of a vision tower's features stands for no patch, by its configuration."""
    return not vision.model_type.startswith("siglip")


def save_llava_processor(
    folder: Path,
    tokenizer: Any,  # noqa: ANN401
    images: Any,  # noqa: ANN401
    config: Any,  # noqa: ANN401
    prompt: str = "vicuna_v1",
) -> None:
    """Write what AutoProcessor, AutoTokenizer and AutoImageProcessor each look for.

    Args:
        folder: of the weights.
        tokenizer: with an `<image>` token.
        images: image processor.
        config: of the LLaVA.
        prompt: name of the prompt that the chat template writes.
    """
    processor: Any = LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=config.vision_config.patch_size,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        num_additional_image_tokens=int(has_class_token(config.vision_config)),
        chat_template=chat_template(tokenizer, prompt),
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
