"""From a conversation and its image to a model's batch: LLaVA-1.5's way, and a chat model's own."""

from __future__ import annotations

from typing import Any

from presel_lightning.data.pixels import Pixels
from presel_lightning.errors import UserError
from presel_lightning.loading.chat_encoder import ChatEncoder
from presel_lightning.loading.llava_encoder import Encoder
from presel_lightning.loading.templates import AUTO, TEMPLATES
from presel_lightning.models.chat import ChatProcessor, chat_processor
from presel_lightning.models.llava_processor import Processor

OWN = "own"
"""The model's own chat template."""


def encoder_of(
    template: str,
    processor: Processor | ChatProcessor,
    max_length: int,
    pixels: Pixels = "as_shown",
) -> Any:  # noqa: ANN401
    """The encoder of a model (a `SampleEncoder`).

    Raises:
        UserError: a template of LLaVA's for a model that has one of its own.
    """
    if isinstance(processor, Processor):
        if template == AUTO:
            template = auto_template(processor)
        if template == OWN:
            own = chat_processor(processor.checkpoint, processor.image_processor)
            return ChatEncoder(own, max_length)
        return Encoder(template, processor, max_length)
    if template != AUTO:
        raise UserError(
            f"data.template {template} is LLaVA-1.5's, and the model of {processor.checkpoint} "
            f"writes conversations by a chat template of its own; set data.template to {AUTO}"
        )
    return ChatEncoder(processor, max_length, pixels)


def auto_template(processor: Processor) -> str:
    """Choose a LLaVA's template by the tokens that it has.

    `vicuna_v1` where `</s>` is a token, as in LLaVA-1.5; else the checkpoint's own chat template; without
    one, `llama_3` where the tokens of its turns are there.
    """
    if processor.has_own_template:
        return OWN
    if processor.has_tokens(TEMPLATES["vicuna_v1"].stop):
        return "vicuna_v1"
    turns = ("<|start_header_id|>", "<|end_header_id|>", TEMPLATES["llama_3"].stop)
    return "llama_3" if processor.has_tokens(*turns) else "vicuna_v1"
