"""A model's own processor, put together of its parts by their names."""

from __future__ import annotations

import inspect
from typing import Any

import transformers
from transformers import AutoConfig
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
from transformers.models.smolvlm import processing_smolvlm
from transformers.processing_utils import ProcessorMixin

from presel_lightning.errors import UserError
from presel_lightning.models.checkpoint import Checkpoint, base_of, is_adapter, resolve_checkpoint
from presel_lightning.models.llava_processor import load_image_processor
from presel_lightning.models.tokenizer import load_tokenizer
from presel_lightning.models.vicuna import has_class_token
from presel_lightning.run.pages import page

PARTS = ("image_processor", "tokenizer")
"""What a processor is made of here; its part for videos needs torchvision."""

OF_TOWER = {"pixtral": "PixtralProcessor"}
"""Processor of a model of type `llava`, by its vision tower, where that is not LLaVA's."""


def load_chat_processor(checkpoint: Checkpoint) -> Any:  # noqa: ANN401 - one class a model
    """Load a model's own processor, for text and still images.

    Its part for videos, which needs torchvision, is left out.

    Raises:
        UserError: transformers knows no processor for this model type, or it cannot be made here, or
            it has no chat template or no token that an image's places are written with.
    """
    place = resolve_checkpoint(checkpoint)
    if is_adapter(place):
        return load_chat_processor(base_of(place))
    config = AutoConfig.from_pretrained(place)
    settings, _ = ProcessorMixin.get_processor_dict(place)
    tokenizer = load_tokenizer(place)
    tokenizer.padding_side = "right"
    template = settings.get("chat_template") or tokenizer.chat_template
    if not template:
        raise UserError(
            f"model.checkpoint {place} has no chat template; give the instruction-tuned model's "
            "chat_template.jinja beside it"
        )
    own = _class_of(config)
    smol: Any = processing_smolvlm
    if issubclass(own, smol.SmolVLMProcessor) and not smol.num2words:
        smol.num2words = str  # it counts the frames of videos in words
    options = {**_of_config(config), **settings, "chat_template": template}
    made = _made(own, place, load_image_processor(place), tokenizer, options)
    if getattr(made, "image_token_id", None) is None:
        raise UserError(
            f"model.checkpoint: the processor of model type {config.model_type!r} does not tell its "
            f"image token; {page('models.md')} lists the models that can be tuned"
        )
    return made


def _class_of(config: Any) -> Any:  # noqa: ANN401 - transformers has one class a model
    """The class of a model's processor.

    Raises:
        UserError: transformers has none, or it needs a package that this library does without.
    """
    kind = getattr(getattr(config, "vision_config", None), "model_type", "")
    name = OF_TOWER.get(kind) if config.model_type == "llava" else None
    if name is None and type(config) not in PROCESSOR_MAPPING:
        raise UserError(f"model.checkpoint: no processor for model type {config.model_type!r}")
    own: Any
    try:
        own = PROCESSOR_MAPPING[type(config)] if name is None else getattr(transformers, name)
        own.get_attributes()
    except (ImportError, AttributeError) as error:
        line = " ".join(str(error).split()).split(". ")[0] or type(error).__name__
        what = f"{config.model_type!r}" + (f" with a {kind} vision tower" if name else "")
        raise UserError(
            f"model.checkpoint: a model of type {what} cannot be tuned here, as its processor cannot be "
            f"loaded ({line}); {page('models.md')} lists the models that can"
        ) from error
    return own


def _parameters(own: Any) -> dict[str, inspect.Parameter]:  # noqa: ANN401
    """Parameters of a processor's constructor, by name."""
    return dict(inspect.signature(own.__init__).parameters)


def _of_config(config: Any) -> dict[str, Any]:  # noqa: ANN401
    """What a LLaVA's processor has to know of the model, where no file of its own says so."""
    if config.model_type != "llava":
        return {}
    return {
        "patch_size": config.vision_config.patch_size,
        "vision_feature_select_strategy": config.vision_feature_select_strategy,
        "num_additional_image_tokens": int(has_class_token(config.vision_config)),
    }


def _made(own: Any, place: str, images: Any, tokenizer: Any, options: dict[str, Any]) -> Any:  # noqa: ANN401
    """Call a processor's class by keyword, with what its signature names.

    Raises:
        UserError: the class refuses them.
    """
    names = _parameters(own)
    parts = set(own.get_attributes())
    kept = {name: options[name] for name in options if name in names and name not in parts}
    given = {"image_processor": images, "tokenizer": tokenizer}
    absent: dict[str, Any] = {name: None for name in parts - set(PARTS) if name in names}
    own_ways: dict[str, Any] = {"get_attributes": classmethod(lambda _: list(PARTS))}
    if (
        "video_processor" in parts
    ):  # some ask it how many frames to take, also where there is no video
        own_ways["apply_chat_template"] = ProcessorMixin.apply_chat_template
    # two parts, as its base class counts them
    kind = type(own.__name__, (own,), own_ways)
    try:
        made = kind(**given, **absent, **kept)
        made.chat_template = options["chat_template"]
    except (TypeError, ValueError, AttributeError, ImportError, KeyError) as error:
        line = " ".join(str(error).split())[:160]
        raise UserError(
            f"model.checkpoint {place}: {own.__name__} cannot be made of what lies there ({line}); give the "
            "model's own tokenizer, preprocessor_config.json and processor_config.json"
        ) from error
    return made
