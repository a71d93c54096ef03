"""Checkpoint layout of the original LLaVA code: for its evaluation scripts and VLMEvalKit.

Source: LLaVA's model builder (which selects the loader by the folder's name) and training script.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.utils.hub import cached_file

from presel_lightning.errors import UserError
from presel_lightning.export.folder import new_folder
from presel_lightning.export.hf import merged as merged_model
from presel_lightning.export.source import adapter_folder, base_config, precision_of
from presel_lightning.models import Components, load_processor, resolve_checkpoint
from presel_lightning.models.aspect import Aspect
from presel_lightning.models.components import components_of, looks_like_hub_id
from presel_lightning.models.vocabulary import own_vocabulary, words_follow
from presel_lightning.run.files import read_json, write_json

ADAPTER_KEYS = (
    "peft_type",
    "task_type",
    "r",
    "lora_alpha",
    "lora_dropout",
    "bias",
    "fan_in_fan_out",
    "inference_mode",
    "init_lora_weights",
)
"""Adapter keys that every version of PEFT accepts; older versions reject newer keys."""

LLAMA_KEYS = (
    "attention_bias",
    "head_dim",
    "bos_token_id",
    "eos_token_id",
    "hidden_act",
    "hidden_size",
    "initializer_range",
    "intermediate_size",
    "max_position_embeddings",
    "mlp_bias",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "pad_token_id",
    "rms_norm_eps",
    "tie_word_embeddings",
)

TOKENIZER_FILES = (
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)

PROJECTOR = {"linear_1": "mm_projector.0", "linear_2": "mm_projector.2"}


def export_llava(
    checkpoint: str,
    path: str | Path,
    merged: bool = True,
    language_model: str | None = None,
    vision_tower: str | None = None,
) -> Path:
    """Write a tuned LLaVA in the layout of the original code.

    A merged model is loaded by its path alone; an adapter with `--model-base` LANGUAGE_MODEL.

    Args:
        checkpoint: folder that a fit wrote.
        path: new folder; its name must hold "llava", and "lora" if (and only if) not merged.
        merged: a whole model rather than adapter and `non_lora_trainables.bin`.
        language_model: folder or hub id of the language model before LLaVA; known where the
            model was assembled from its parts.
        vision_tower: the same for the vision tower.

    Raises:
        UserError: LLaVA would load a folder of this name as another kind of model, a part is not
            known, or the model is not a LLaVA-1.5.
    """
    path = Path(path)
    check_name(path, merged)
    place = resolve_checkpoint(checkpoint)
    config = base_config(place)
    parts = _parts(place, language_model, vision_tower)
    size = vocabulary(place, config)
    with new_folder(path) as folder:
        if merged:
            state = _merged_state(merged_model(place, config), size)
            save_torch_state_dict(state, folder)
            _copy_tokenizer(parts.language_model, folder)
        else:
            _write_adapter(adapter_folder(place), folder, parts.language_model)
        write_json(folder / "config.json", llava_config(config, parts, size, aspect_of(place)))
    return path


def check_name(path: Path, merged: bool) -> None:
    """Check that LLaVA's loader selects the right kind of model by the folder's name.

    Raises:
        UserError: it does not; the message suggests a name.
    """
    name = path.name.lower()
    unwanted = ["lora", "mpt", "mistral"] if merged else []
    wanted = ["llava"] if merged else ["llava", "lora"]
    if all(word in name for word in wanted) and not any(word in name for word in unwanted):
        return
    cure = "llava-v1.5-7b-presel" if merged else "llava-v1.5-7b-presel-lora"
    rule = f"hold {' and '.join(wanted)}"
    rule += f", and none of {', '.join(unwanted)}" if unwanted else ""
    raise UserError(
        f"--path {path}: LLaVA infers the kind of a model from its folder's name, which must {rule}; "
        f"give {path.parent / cure}"
    )


def _parts(place: str, language_model: str | None, vision_tower: str | None) -> Components:
    known = components_of(place)
    language_model = language_model or (known.language_model if known else None)
    vision_tower = vision_tower or (known.vision_tower if known else None)
    for option, value in (("language_model", language_model), ("vision_tower", vision_tower)):
        cure = (
            f"give --{option}, a folder or hub id (lmsys/vicuna-7b-v1.5, "
            "openai/clip-vit-large-patch14-336)"
        )
        if value is None:
            raise UserError(f"{place} does not record what it was assembled from; {cure}")
        if not Path(value).is_dir() and not looks_like_hub_id(value):
            raise UserError(f"{place}: its {option} {value} is no longer there; {cure}")
    return Components(str(language_model), str(vision_tower), "")


def vocabulary(place: str, config: Any) -> int:  # noqa: ANN401
    """Return the size of the language model's own vocabulary.

    Raises:
        UserError: the model is not a LLaVA-1.5 on Llama, or `<image>` is inside its vocabulary.
    """
    tower = getattr(getattr(config, "vision_config", None), "model_type", "")
    kind = config.model_type, getattr(config.get_text_config(), "model_type", ""), tower
    if kind != ("llava", "llama", "clip_vision_model"):
        raise UserError(
            f"{place} is a {' of '.join(filter(None, kind))}, which LLaVA's own code does not read; export it as "
            "a merged transformers checkpoint"
        )
    tokenizer = load_processor(place).tokenizer
    image = int(config.image_token_id)
    if words_follow(image, tokenizer):
        raise UserError(
            f"{place}: <image> is token {image} amid the vocabulary; LLaVA's own code supports only "
            "models whose language model had no such token"
        )
    return own_vocabulary(config, tokenizer)


def aspect_of(place: str) -> Aspect:
    """Return LLaVA's name of the image preprocessing: padded to a square, or cropped."""
    processor = load_processor(place).image_processor
    return "pad" if getattr(processor, "do_pad", False) else "square"


def llava_config(
    config: Any,  # noqa: ANN401 - transformers has one class a model
    parts: Components,
    size: int,
    aspect: Aspect,
) -> dict[str, Any]:
    """Build LLaVA's config.json: Llama's keys as in transformers 4, and LLaVA's own."""
    text = config.text_config
    rope = dict(text.rope_parameters)
    theta = rope.pop("rope_theta")
    return {
        **{key: getattr(text, key) for key in LLAMA_KEYS},
        "model_type": "llava_llama",
        "architectures": ["LlavaLlamaForCausalLM"],
        "vocab_size": size,
        "rope_theta": theta,
        "rope_scaling": None if rope.get("rope_type") == "default" else rope,
        "torch_dtype": str(precision_of(config)).removeprefix("torch."),
        "use_cache": True,
        "mm_vision_tower": parts.vision_tower,
        "mm_projector_type": "mlp2x_gelu",
        "mm_hidden_size": config.vision_config.hidden_size,
        "mm_vision_select_layer": config.vision_feature_layer,
        "mm_vision_select_feature": "patch",
        "mm_patch_merge_type": "flat",
        "mm_use_im_start_end": False,
        "mm_use_im_patch_token": False,
        "use_mm_proj": True,
        "image_aspect_ratio": aspect,
        "tokenizer_model_max_length": 2048,
        "tokenizer_padding_side": "right",
        "tune_mm_mlp_adapter": False,
        "freeze_mm_mlp_adapter": False,
    }


def _merged_state(model: Any, size: int) -> dict[str, Tensor]:  # noqa: ANN401
    """Return language model, head and projector by LLaVA's names, without the vision tower."""
    state = {"lm_head.weight": model.lm_head.weight}
    for name, tensor in model.model.language_model.state_dict().items():
        state[f"model.{name}"] = tensor
    for name, tensor in model.model.multi_modal_projector.state_dict().items():
        state[f"model.{_renamed(name)}"] = tensor
    for name in ("lm_head.weight", "model.embed_tokens.weight"):
        state[name] = state[name][:size].clone()
    return {name: tensor.detach().contiguous() for name, tensor in state.items()}


def _renamed(name: str) -> str:
    layer, kind = name.split(".")
    return f"{PROJECTOR[layer]}.{kind}"


def _write_adapter(source: Path, folder: Path, language_model: str) -> None:
    """Split an adapter file into LoRA weights and the projector, by LLaVA's names."""
    adapter, projector = {}, {}
    for name, tensor in load_file(source / "adapter_model.safetensors").items():
        if ".multi_modal_projector." in name:
            head, tail = name.split("multi_modal_projector.")
            projector[head + _renamed(tail)] = tensor
        else:
            adapter[name.replace(".language_model.", ".", 1)] = tensor
    save_file(adapter, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    torch.save(projector, folder / "non_lora_trainables.bin")
    config = read_json(source / "adapter_config.json")
    kept = {key: config[key] for key in ADAPTER_KEYS if key in config}
    write_json(
        folder / "adapter_config.json",
        {
            **kept,
            "base_model_name_or_path": language_model,
            "target_modules": targets(adapter),
            "modules_to_save": None,
        },
    )


def targets(names: Iterable[str]) -> list[str]:
    """Return the last names of the layers that adapter tensors belong to."""
    return sorted({name.split(".lora_")[0].split(".")[-1] for name in names})


def _copy_tokenizer(language_model: str, folder: Path) -> None:
    """Copy the language model's own tokenizer files: LLaVA has no `<image>` token.

    Raises:
        UserError: there are none.
    """
    options = {"_raise_exceptions_for_missing_entries": False}
    options["_raise_exceptions_for_connection_errors"] = False
    for name in TOKENIZER_FILES:
        found = cached_file(language_model, name, **options)
        if found is not None:
            shutil.copyfile(found, folder / name)
    if not any((folder / name).is_file() for name in TOKENIZER_FILES[:2]):
        raise UserError(
            f"--language_model {language_model}: no tokenizer.model or tokenizer.json there"
        )
