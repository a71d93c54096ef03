r"""LLaVA put together from the parts it was published in.

.. math:: \mathrm{embed}(image) = W_2\,\mathrm{gelu}(W_1\,h_{-2}[1:] + b_1) + b_2

with :math:`h_{-2}` the output of the vision tower's last layer but one, without [CLS]; a SigLIP has none, and
all of its patches are taken.

Source: LLaVA-1.5's published fine-tuning script and its model code.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    AddedToken,
    AutoConfig,
    AutoImageProcessor,
    AutoModelForCausalLM,
    CLIPVisionModel,
    Dinov2Model,
    LlavaConfig,
    LlavaForConditionalGeneration,
    SiglipVisionModel,
)

from presel_lightning.console import console
from presel_lightning.errors import UserError
from presel_lightning.models.aspect import Aspect, with_aspect
from presel_lightning.models.components import (
    FILE,
    Components,
    absolute,
    cache_folder,
    describe_components,
    projector_file,
)
from presel_lightning.models.tokenizer import load_tokenizer
from presel_lightning.models.vicuna import IMAGE_TOKEN, has_class_token, save_llava_processor
from presel_lightning.models.vocabulary import limit_vocabulary
from presel_lightning.run.files import read_json, replacing_folder, write_json
from presel_lightning.run.fingerprint import fingerprint

PROJECTOR_KEYS = {
    "model.mm_projector.0.weight": "linear_1.weight",
    "model.mm_projector.0.bias": "linear_1.bias",
    "model.mm_projector.2.weight": "linear_2.weight",
    "model.mm_projector.2.bias": "linear_2.bias",
}
"""LLaVA's names of the projector's tensors, and those of transformers."""

VOCABULARY_MULTIPLE = 64

VISION: dict[str, Any] = {
    "clip": CLIPVisionModel,
    "clip_vision_model": CLIPVisionModel,
    "siglip": SiglipVisionModel,
    "siglip_vision_model": SiglipVisionModel,
    "dinov2": Dinov2Model,
}
"""Class of a vision tower by model type, of the tower alone or of a model with a text part beside it."""


def build_llava(
    language_model: str,
    vision_tower: str,
    projector: str,
    *,
    out: Path | None = None,
    aspect: Aspect = "pad",
) -> Path:
    """Make a checkpoint in transformers format of LLaVA's three published parts, once.

    Weights keep the precision of their parts. The rows that the vocabulary gains (`<image>` and
    what fills it up to a multiple of 64) are the mean of the others, and take no probability here;
    see `limit_vocabulary`.

    Args:
        language_model: folder or hub id of a causal language model with its tokenizer.
        vision_tower: folder or hub id of a CLIP, SigLIP or DINOv2 with its image processor.
        projector: `mm_projector.bin` or `.safetensors`, or a folder or hub id with one.
        out: where to write it; by default the user's cache, by content of the parts.
        aspect: see `Components`.

    Returns:
        The folder.

    Raises:
        UserError: a part is missing or does not fit; the message names its key.
    """
    parts = Components(language_model, vision_tower, projector, aspect)
    key = key_of(parts)
    folder = cache_folder() / key if out is None else Path(out)
    known = {**absolute(parts), "key": key}
    folder.parent.mkdir(parents=True, exist_ok=True)
    # the first of several processes builds, the others wait
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if _key(folder) == key:
            if read_json(folder / FILE) != known:  # equal parts, and they lie elsewhere now
                write_json(folder / FILE, known)
            return folder
        if folder.is_dir() and any(folder.iterdir()) and not (folder / FILE).is_file():
            raise UserError(f"build_llava: {folder} holds something else; give an empty folder")
        console.print(f"assembling LLaVA of {language_model}, {vision_tower} and {projector}")
        # what is drawn after it must not depend on whether it was built now or before
        with replacing_folder(folder) as temporary, torch.random.fork_rng(devices=[]):
            _assemble(parts, temporary, aspect)
            write_json(temporary / FILE, known)
        console.print(f"  written to {folder}")
    return folder


def key_of(parts: Components) -> str:
    """Name of what is made of these parts, by their content, in the user's cache."""
    return fingerprint([describe_components(parts), parts.aspect])


def is_assembled(parts: Components) -> bool:
    """Whether these parts have been put together before, and the result is still in the cache."""
    return (cache_folder() / key_of(parts) / FILE).is_file()


def _key(folder: Path) -> str | None:
    path = folder / FILE
    return read_json(path).get("key") if path.is_file() else None


def _assemble(parts: Components, folder: Path, aspect: Aspect) -> None:
    language = _loaded("language_model", parts.language_model, AutoModelForCausalLM)
    vision = _loaded("vision_tower", parts.vision_tower)
    tokenizer = _tokenizer(parts.language_model)
    config = _config(language, vision, tokenizer)
    weights = read_projector(
        parts.projector, vision.config.hidden_size, language.config.hidden_size
    )
    # on `meta` and then exchanged, so that nothing is drawn only to be overwritten
    with torch.device("meta"):
        model: Any = LlavaForConditionalGeneration(config)
    model.model.language_model = language.model
    model.model.vision_tower = vision
    model.lm_head = language.lm_head
    mapper = model.model.multi_modal_projector.to_empty(device="cpu")
    mapper.to(weights["linear_1.weight"].dtype).load_state_dict(weights)
    own = language.get_input_embeddings().num_embeddings
    _grow_vocabulary(model, len(tokenizer))
    limit_vocabulary(model, own)
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(model.generation_config, name, getattr(tokenizer, name))
    model.save_pretrained(folder)
    images = _image_processor(parts.vision_tower, vision.config.image_size, aspect)
    save_llava_processor(folder, tokenizer, images, config)


def _loaded(key: str, name: str, kind: Any = None) -> Any:  # noqa: ANN401
    """Load one part in its own precision; every weight must be there. Without a class, a vision tower."""

    def load(name: str) -> tuple[Any, dict[str, Any]]:
        found = AutoConfig.from_pretrained(name).model_type
        if kind is None and found not in VISION:
            raise ValueError(f"it is a {found}, not a clip, siglip or dinov2")
        loaded: tuple[Any, dict[str, Any]] = (kind or VISION[found]).from_pretrained(
            name, dtype="auto", output_loading_info=True
        )
        return loaded

    model, info = _part(key, name, load)
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise UserError(
            f"model.components.{key}: {name!r} lacks {len(missing)} tensors, {missing[0]} first; "
            "download it again"
        )
    return model


def _part(key: str, name: str, load: Callable[[str], Any]) -> Any:  # noqa: ANN401
    try:
        return load(str(Path(name).expanduser()) if name.startswith("~") else name)
    except (OSError, ValueError, KeyError, SafetensorError, UnpicklingError) as error:
        line = str(error).strip().split("\n")[0]
        raise UserError(
            f"model.components.{key}: {name!r} cannot be used: {line}; give a folder or hub id in "
            "transformers format"
        ) from error


def _tokenizer(language_model: str) -> Any:  # noqa: ANN401 - transformers has one class a model
    """The language model's own, with `<image>` at its end, padded at the right with `<unk>`."""
    tokenizer = _part("language_model", language_model, load_tokenizer)
    tokenizer.padding_side = "right"
    # LLaVA pads with `<unk>`; a byte-level tokenizer has none
    tokenizer.pad_token = tokenizer.unk_token or tokenizer.pad_token or tokenizer.eos_token
    tokenizer.add_tokens([AddedToken(IMAGE_TOKEN, special=True, normalized=False)])
    return tokenizer


def _config(language: Any, vision: Any, tokenizer: Any) -> Any:  # noqa: ANN401
    places = (vision.config.image_size // vision.config.patch_size) ** 2
    config: Any = LlavaConfig(
        vision_config=vision.config,
        text_config=language.config,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        image_seq_length=places,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default" if has_class_token(vision.config) else "full",
        projector_hidden_act="gelu",
        tie_word_embeddings=language.config.tie_word_embeddings,
    )
    config.dtype = language.dtype
    config.text_config.pad_token_id = tokenizer.pad_token_id
    return config


def read_projector(name: str, vision_size: int, size: int) -> dict[str, Tensor]:
    """Read LLaVA's projector by transformers' names.

    Args:
        name: file, folder or hub id.
        vision_size: width of the vision tower.
        size: width of the language model.

    Raises:
        UserError: there is no such file, or its tensors are not those of this projector.
    """
    path = projector_file(name)
    where = f"model.components.projector: {path}"
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError) as error:
        raise UserError(f"{where} is not a file of tensors; download it again") from error
    if not isinstance(state, dict) or set(state) != set(PROJECTOR_KEYS):
        found = ", ".join(list(map(str, state))[:4]) if isinstance(state, dict) else type(state)
        raise UserError(
            f"{where} holds {found}; wanted {', '.join(PROJECTOR_KEYS)} (a two-layer projector, "
            "mlp2x_gelu)"
        )
    shapes = [(size, vision_size), (size,), (size, size), (size,)]
    for key, shape in zip(PROJECTOR_KEYS, shapes, strict=True):
        if tuple(state[key].shape) != shape:
            raise UserError(
                f"{where}: {key} is {tuple(state[key].shape)}, but this language model and vision "
                f"tower need {shape}; take the projector that was aligned for them"
            )
    return {PROJECTOR_KEYS[key]: tensor for key, tensor in state.items()}


def _grow_vocabulary(model: Any, size: int) -> None:  # noqa: ANN401
    """Make room for `<image>`; nothing is drawn, so that every build is the same."""
    old = model.get_input_embeddings().num_embeddings
    if size > old:
        model.resize_token_embeddings(
            size, pad_to_multiple_of=VOCABULARY_MULTIPLE, mean_resizing=False
        )
    with torch.no_grad():
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            layer.weight[old:] = layer.weight[:old].float().mean(0).to(layer.weight.dtype)


def _image_processor(vision_tower: str, side: int, aspect: Aspect) -> Any:  # noqa: ANN401
    """The vision tower's own resizing and colours; images become square first, or in the end."""
    own = _part(
        "vision_tower",
        vision_tower,
        lambda name: AutoImageProcessor.from_pretrained(name, backend="pil"),
    )
    return with_aspect(own, side, aspect)
