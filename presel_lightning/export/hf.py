"""Merged checkpoint in transformers format: for vLLM, lmms-eval, or further tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from presel_lightning.errors import UserError
from presel_lightning.export.folder import new_folder
from presel_lightning.export.source import base_config, precision_of
from presel_lightning.models import load_model, load_processor, resolve_checkpoint
from presel_lightning.models.llava_processor import is_llava15
from presel_lightning.models.own_processor import load_chat_processor
from presel_lightning.models.vicuna import save_llava_processor


def export_hf_merged(checkpoint: str, path: str | Path, template: str = "auto") -> Path:
    """Write the model with its adapter merged in, its processor and chat template.

    Weights and `config.json` have the precision of the language model that was tuned. An adapter
    is merged in fp32.

    Args:
        checkpoint: folder that a fit wrote, with an adapter or a whole model.
        path: new folder.
        template: `data.template` of the fit; the chat template writes the same prompt.

    Raises:
        UserError: `path` exists, or the base model is stored in four bits.
    """
    place = resolve_checkpoint(checkpoint)
    config = base_config(place)
    model = merged(place, config)
    with new_folder(path) as folder:
        model.save_pretrained(folder)
        processor = load_processor(place) if is_llava15(config) else None
        if processor is not None and not processor.has_own_template:
            parts = processor.tokenizer, processor.image_processor
            save_llava_processor(folder, *parts, config, template)
        else:
            load_chat_processor(place).save_pretrained(folder)
    return Path(path)


def merged(place: str, config: Any) -> Any:  # noqa: ANN401
    """Load a whole model, merge its adapter in fp32, and cast it to its language model's precision.

    Raises:
        UserError: the base model is stored in four bits.
    """
    if getattr(config, "quantization_config", None) is not None:
        raise UserError(
            f"{place} was tuned from a checkpoint stored in few bits, which an adapter cannot be "
            "merged into without loss; export the adapter instead, with --to adapter"
        )
    model: Any = load_model(place, dtype="float32")
    precision = precision_of(config)
    for name in model.config.sub_configs:
        if part := getattr(model.config, name, None):
            part.dtype = precision
    return model.to(precision)
