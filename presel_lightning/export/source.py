"""Source checkpoint of a model export: its configuration, precision and adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from presel_lightning.errors import UserError
from presel_lightning.models.checkpoint import base_of, is_adapter, resolve_checkpoint


def base_config(place: str) -> Any:  # noqa: ANN401 - transformers has one class a model
    """Read the configuration of a whole model, or of an adapter's base model."""
    base = resolve_checkpoint(base_of(place)) if is_adapter(place) else place
    return AutoConfig.from_pretrained(base)


def precision_of(config: Any) -> torch.dtype:  # noqa: ANN401
    """Return the precision of the language model, in which a whole model is written.

    The parts of a LLaVA differ in precision (CLIP is published in fp32, vicuna in fp16), and the
    configuration of the whole holds that of the first.
    """
    text = config.get_text_config().dtype if config.model_type == "llava" else None
    found: torch.dtype = text or config.dtype or torch.float32
    return found


def adapter_folder(checkpoint: str) -> Path:
    """Return the folder of an adapter.

    Raises:
        UserError: the checkpoint is a whole model.
    """
    place = resolve_checkpoint(checkpoint)
    if not is_adapter(place):
        raise UserError(
            f"{checkpoint} holds no adapter_config.json; export it with --to hf instead"
        )
    return Path(place)
