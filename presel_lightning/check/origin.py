"""Checkpoint of a run, or the three parts of one, read without their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AddedToken, AutoConfig, LlavaConfig

from presel_lightning.data.conversation import IMAGE
from presel_lightning.errors import UserError
from presel_lightning.models import Components, Processor, processor_of
from presel_lightning.models.assemble import read_projector
from presel_lightning.models.checkpoint import (
    Checkpoint,
    base_of,
    is_adapter,
    name_of,
    resolve_checkpoint,
)
from presel_lightning.models.tokenizer import load_tokenizer
from presel_lightning.run.files import read_json
from presel_lightning.tasks import FineTune

WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
"""Patterns of weight files that `from_pretrained` loads."""


def origin_of(module: FineTune) -> Checkpoint:
    """Return the checkpoint or the parts that a module starts from."""
    return module.origin


def read_config(origin: Checkpoint) -> Any:  # noqa: ANN401 - transformers has one class a model
    """Read the configuration of the model, whose files must all exist.

    Raises:
        UserError: a file is missing, or the projector does not fit the other parts.
    """
    if not isinstance(origin, Components):
        return config_at(origin, "model.checkpoint")
    text = config_at(origin.language_model, "model.components.language_model")
    vision = config_at(origin.vision_tower, "model.components.vision_tower")
    vision = getattr(vision, "vision_config", vision)  # the vision part of a whole CLIP
    places = (vision.image_size // vision.patch_size) ** 2
    config = LlavaConfig(text_config=text, vision_config=vision, image_seq_length=places)
    config.dtype = text.dtype
    read_projector(origin.projector, vision.hidden_size, text.hidden_size)
    return config


def config_at(name: str, key: str) -> Any:  # noqa: ANN401 - transformers has one class a model
    """Read the configuration of a folder or hub id; a folder must hold its weights too.

    Args:
        name: folder or hub id, or a shipped model.
        key: key of the run's configuration, for messages.

    Raises:
        UserError: the configuration or a weight file is missing.
    """
    place = resolve_checkpoint(name)
    if is_adapter(place):
        place = resolve_checkpoint(base_of(place))
    try:
        config = AutoConfig.from_pretrained(place)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{key} {name}: no configuration of a model can be read there ({brief(error)}); give "
            "a folder in transformers format, or a hub id that is cached or reachable"
        ) from error
    if Path(place).is_dir():
        require_weights(Path(place), key)
    return config


def require_weights(folder: Path, key: str) -> None:
    """Check that a checkpoint folder has weights, and every shard of its index.

    Raises:
        UserError: a file is missing.
    """
    present = {path.name for pattern in WEIGHTS for path in folder.glob(pattern)}
    named = {
        part
        for index in folder.glob("*.index.json")
        for part in read_json(index)["weight_map"].values()
    }
    missing = sorted(named - present)
    if missing or not present:
        what = f"{', '.join(missing[:3])} of its index" if missing else "*.safetensors"
        raise UserError(f"{key} {folder}: its weights are missing ({what}); copy them there")


def read_processor(module: FineTune, config: Any) -> Any:  # noqa: ANN401 - see `read_config`
    """Load the module's tokenizer, and its image processor where it has one.

    Raises:
        UserError: one of their files is missing.
    """
    origin = origin_of(module)
    try:
        if not isinstance(origin, Components):
            return processor_of(origin)
        tokenizer = load_tokenizer(origin.language_model)
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(
            f"{name_of(origin)}: no tokenizer or image processor can be read there "
            f"({brief(error)}); copy their files beside the weights of model.checkpoint"
        ) from error
    tokenizer.add_tokens([AddedToken(IMAGE, special=True, normalized=False)])
    return Processor(tokenizer, None, config.image_seq_length)


def brief(error: Exception) -> str:
    """Return the first sentence of an error's text, shortened."""
    return " ".join(str(error).split()).split(". ")[0][:120]
