"""One whole checkpoint in transformers format: for vLLM, lmms-eval, or to tune further."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from presel_lightning.errors import UserError
from presel_lightning.export.folder import new_folder
from presel_lightning.export.source import base_config, precision_of
from presel_lightning.models import load_model, load_processor, resolve_checkpoint
from presel_lightning.models.chat import load_chat_processor
from presel_lightning.models.vicuna import save_llava_processor


def export_hf_merged(checkpoint: str, path: str | Path) -> Path:
    """Write the model with its adapter merged in, its processor and chat template.

    Weights have the precision of the language model that was tuned, and `config.json` says so.
    They go through fp32 when an adapter is merged.

    Args:
        checkpoint: folder that a fit wrote, of adapter or whole model.
        path: new folder.

    Raises:
        UserError: `path` exists, or the base model is stored in four bits.
    """
    place = resolve_checkpoint(checkpoint)
    config = base_config(place)
    model = merged(place, config)
    with new_folder(path) as folder:
        model.save_pretrained(folder)
        if config.model_type == "llava":
            processor = load_processor(place)
            save_llava_processor(folder, processor.tokenizer, processor.image_processor, config)
        else:
            load_chat_processor(place).save_pretrained(folder)
    return Path(path)


def merged(place: str, config: Any) -> Any:  # noqa: ANN401
    """A whole model, adapter merged in in fp32, moved to the precision of its language model.

    Raises:
        UserError: the base model is stored in four bits.
    """
    if getattr(config, "quantization_config", None) is not None:
        raise UserError(
            f"{place} was tuned from a checkpoint stored in few bits, which an adapter cannot be "
            "merged into without loss; export the adapter instead"
        )
    model: Any = load_model(place, dtype="float32")
    precision = precision_of(config)
    for name in model.config.sub_configs:
        if part := getattr(model.config, name, None):
            part.dtype = precision
    return model.to(precision)
