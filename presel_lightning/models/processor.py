"""The tokenizer and the image processor of a checkpoint, as one light object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transformers import AutoConfig

from presel_lightning.errors import UserError
from presel_lightning.models.aspect import Aspect
from presel_lightning.models.checkpoint import Checkpoint, base_of, is_adapter, resolve_checkpoint
from presel_lightning.models.llava_processor import Processor, is_llava15, load_processor

if TYPE_CHECKING:
    from presel_lightning.models.chat import ChatProcessor


def processor_of(checkpoint: Checkpoint, aspect: Aspect | None = None) -> Processor | ChatProcessor:
    """Load what a checkpoint needs before its weights: LLaVA-1.5's parts, or the model's own.

    Args:
        checkpoint: whole model, adapter, or parts.
        aspect: how a LLaVA-1.5 makes images square; None as it was written down.

    Raises:
        UserError: an aspect for another model.
    """
    from presel_lightning.models.chat import chat_processor

    place = whole = resolve_checkpoint(checkpoint)
    while is_adapter(whole):
        whole = resolve_checkpoint(base_of(whole))
    config = AutoConfig.from_pretrained(whole)
    if is_llava15(config):
        processor = load_processor(place)
        return processor if aspect is None else processor.with_aspect(aspect)
    if aspect is not None:
        raise UserError(
            f"model.aspect {aspect} is for LLaVA-1.5, and {place} is of type {config.model_type!r}, which has a "
            "way of its own to read images; set model.aspect to null"
        )
    return chat_processor(whole)
