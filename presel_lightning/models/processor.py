"""The tokenizer and the image processor of a checkpoint, as one light object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transformers import AutoConfig

from presel_lightning.models.checkpoint import Checkpoint, base_of, is_adapter, resolve_checkpoint
from presel_lightning.models.llava_processor import LLAVA, Processor, load_processor

if TYPE_CHECKING:
    from presel_lightning.models.chat import ChatProcessor


def processor_of(checkpoint: Checkpoint) -> Processor | ChatProcessor:
    """Load what a checkpoint needs before its weights: LLaVA-1.5's parts, or the model's own."""
    from presel_lightning.models.chat import chat_processor

    place = resolve_checkpoint(checkpoint)
    if is_adapter(place):
        return processor_of(base_of(place))
    llava = AutoConfig.from_pretrained(place).model_type == LLAVA
    return load_processor(place) if llava else chat_processor(place)
