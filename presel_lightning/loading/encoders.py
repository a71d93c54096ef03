"""From a conversation and its image to a model's batch: LLaVA-1.5's way, and a chat model's own."""

from __future__ import annotations

from typing import Any

from presel_lightning.data.pixels import Pixels
from presel_lightning.errors import UserError
from presel_lightning.loading.chat_encoder import ChatEncoder
from presel_lightning.loading.llava_encoder import Encoder
from presel_lightning.loading.templates import AUTO
from presel_lightning.models.chat import (
    ChatProcessor,
)
from presel_lightning.models.llava_processor import Processor


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
        return Encoder("vicuna_v1" if template == AUTO else template, processor, max_length)
    if template != AUTO:
        raise UserError(
            f"data.template {template} is LLaVA-1.5's, and the model of {processor.checkpoint} "
            f"writes conversations by a chat template of its own; set data.template to {AUTO}"
        )
    return ChatEncoder(processor, max_length, pixels)
