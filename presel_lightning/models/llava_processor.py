"""Tokenizer and image processor of a LLaVA-1.5 checkpoint, as one light object."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor
from transformers import AutoConfig, AutoImageProcessor

from presel_lightning.errors import UserError
from presel_lightning.models.aspect import Aspect, with_aspect
from presel_lightning.models.checkpoint import Checkpoint, base_of, is_adapter, resolve_checkpoint
from presel_lightning.models.components import FILE
from presel_lightning.models.tokenizer import load_tokenizer
from presel_lightning.models.vicuna import IMAGE_TOKEN

LLAVA = "llava"
"""Model type of LLaVA-1.5, and of others in its envelope (Pixtral)."""

TOWERS = frozenset({"clip_vision_model", "siglip_vision_model", "dinov2"})
"""Types of a LLaVA-1.5's vision tower: these give each image the same number of tokens."""


END_OF_ANSWER = "</s>"
"""What ends an answer of LLaVA-1.5."""


@dataclass(frozen=True)
class Processor:
    """What turns text and pictures into the inputs of one model.

    Attributes:
        n_image_tokens: how many places one image takes in the input.
        checkpoint: whole model that it was loaded from; empty for parts.
    """

    tokenizer: Any
    image_processor: Any
    n_image_tokens: int
    checkpoint: str = ""

    def pixels(self, image: Image) -> Tensor:
        """Resize and normalise one RGB image to (3, H, W)."""
        values = self.image_processor(images=image, return_tensors="pt")["pixel_values"]
        return torch.as_tensor(values[0])

    def with_aspect(self, aspect: Aspect) -> Processor:
        """The same, but for how an image becomes square."""
        side = int(self.image_processor.crop_size["height"])
        return replace(self, image_processor=with_aspect(self.image_processor, side, aspect))

    def has_tokens(self, *marks: str) -> bool:
        """Whether each of these is one token."""
        found = (self.tokenizer(mark, add_special_tokens=False)["input_ids"] for mark in marks)
        return all(len(ids) == 1 for ids in found)

    @property
    def has_own_template(self) -> bool:
        """Whether the checkpoint's chat template is another model's than LLaVA-1.5's, whose answers end in `</s>`.

        A model put together of its parts has LLaVA-1.5's prompt as its chat template.
        """
        assembled = not self.checkpoint or (Path(self.checkpoint) / FILE).is_file()
        return bool(
            self.tokenizer.chat_template and not assembled and not self.has_tokens(END_OF_ANSWER)
        )

    def save(self, folder: Path) -> None:
        """Write tokenizer and image processor beside the weights."""
        self.tokenizer.save_pretrained(folder)
        self.image_processor.save_pretrained(folder)


def is_llava15(config: Any) -> bool:  # noqa: ANN401 - transformers has one class a model
    """Whether a model is built as LLaVA-1.5 is: by its parts, as others have its model type too."""
    return config.model_type == LLAVA and config.vision_config.model_type in TOWERS


def load_image_processor(checkpoint: Checkpoint) -> Any:  # noqa: ANN401 - one class a model
    """Load the image processor of a checkpoint; always the PIL one, which needs no torchvision."""
    return AutoImageProcessor.from_pretrained(resolve_checkpoint(checkpoint), backend="pil")


def load_processor(checkpoint: Checkpoint) -> Processor:
    """Load what a LLaVA checkpoint needs before its weights.

    An adapter has the tokenizer of its base, and reads images as it was tuned to.

    Raises:
        UserError: the tokenizer has no `<image>` token, or the model is no LLaVA.
    """
    place = resolve_checkpoint(checkpoint)
    if is_adapter(place):
        base = load_processor(base_of(place))
        own = (Path(place) / "preprocessor_config.json").is_file()
        return replace(base, image_processor=load_image_processor(place)) if own else base
    config = AutoConfig.from_pretrained(place)
    if not is_llava15(config):
        tower = getattr(getattr(config, "vision_config", None), "model_type", "no")
        kind = f"{config.model_type!r}" + (
            f" with a {tower} vision tower" if config.model_type == LLAVA else ""
        )
        raise UserError(
            f"model.checkpoint {checkpoint!r} is of type {kind}, which gives an "
            "image a varying number of tokens; give a LLaVA-1.5 checkpoint"
        )
    tokenizer = load_tokenizer(place)
    tokenizer.padding_side = "right"
    if tokenizer.convert_tokens_to_ids(IMAGE_TOKEN) in (None, tokenizer.unk_token_id):
        raise UserError(
            f"the tokenizer of model.checkpoint {checkpoint!r} has no {IMAGE_TOKEN} token; "
            "give a LLaVA checkpoint in transformers format"
        )
    return Processor(tokenizer, load_image_processor(place), config.image_seq_length, place)
