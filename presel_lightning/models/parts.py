"""Where in an image-text model its language model, vision tower and projector are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from torch import nn

from presel_lightning.errors import UserError

PROJECTOR = "multi_modal_projector"

PROJECTORS = (PROJECTOR, "merger", "connector", "aligner")
"""How transformers calls the module that turns image features into token embeddings."""


@dataclass(frozen=True)
class Parts:
    """Names of a model's parts, as `named_modules` has them.

    Attributes:
        projector: may lie inside the vision tower (Qwen's `visual.merger`).
        head: the output embeddings.
    """

    language_model: str
    vision_tower: str
    projector: str
    head: str


def parts_of(model: Any) -> Parts:  # noqa: ANN401 - transformers' auto class
    """Find the parts of an image-text model of transformers, weights loaded or not.

    Raises:
        UserError: a part cannot be identified; the message names the model type.
    """
    names = {module: name for name, module in model.named_modules()}
    modules = {
        "language model": model.get_decoder(),
        "vision tower": model.get_encoder(modality="image"),
        "projector": _projector(model),
        "head": model.get_output_embeddings(),
    }
    for part, module in modules.items():
        if not names.get(module):
            raise UserError(
                f"model.checkpoint: the {part} of model type {model.config.model_type!r} was not "
                "found, so it cannot be trained here; use a LLaVA, LLaVA-OneVision or Qwen2.5-VL"
            )
    return Parts(*(names[module] for module in modules.values()))


def _projector(model: nn.Module) -> nn.Module | None:
    """The outermost module with one of the known names."""
    found = (m for name, m in model.named_modules() if name.split(".")[-1] in PROJECTORS)
    return next(found, None)


def is_projector(name: str) -> bool:
    """Whether a parameter, by its name, belongs to the projector; also inside PEFT's envelope."""
    return any(part in PROJECTORS for part in name.split("."))


def linear_layers(model: nn.Module, part: str) -> str:
    """Pattern that the full names of all linear layers of one part match, and no others."""
    inside = [
        name.removeprefix(f"{part}.")
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.startswith(f"{part}.")
    ]
    last = sorted({re.escape(name.split(".")[-1]) for name in inside})
    return rf"{re.escape(part)}\..*\b({'|'.join(last)})"
