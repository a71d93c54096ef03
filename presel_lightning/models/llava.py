"""Image-text models of transformers: loaded, made trainable (LoRA or whole), saved."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import AutoModelForImageTextToText

from presel_lightning.console import console
from presel_lightning.errors import UserError
from presel_lightning.models import components
from presel_lightning.models import quantization as four_bit
from presel_lightning.models.checkpoint import Checkpoint, base_of, is_adapter, resolve_checkpoint
from presel_lightning.models.content import CARD
from presel_lightning.models.parts import (
    PROJECTOR,
    is_projector,
    linear_layers,
    parts_of,
)
from presel_lightning.models.quantization import Quantization, is_quantised
from presel_lightning.models.tokenizer import load_tokenizer
from presel_lightning.models.vocabulary import KEY, limit_vocabulary, own_vocabulary
from presel_lightning.run.ranges import Count, ProperFraction, Rank
from presel_lightning.run.ranks import rank_zero

__all__ = ["PROJECTOR", "LoRA", "load_model", "save_model"]

Tune = Literal["lora", "full", "none"]


@dataclass(frozen=True)
class LoRA:
    """Low-rank adapters of the language model; the projector is trained whole beside them.

    The defaults are those of LLaVA-1.5.
    """

    r: Rank = 128
    """Rank of the update."""
    alpha: Count = 256
    """Scale of the update: alpha / r."""
    dropout: ProperFraction = 0.05
    """Dropout before the adapter."""
    target: str | None = None
    """Pattern that a module's whole name must match; by default every linear layer inside the
    language model, its head apart, and none of the vision tower."""

    def __post_init__(self) -> None:
        """Refuse a pattern that is no regular expression."""
        try:
            re.compile(self.target or "")
        except re.error as error:
            raise UserError(
                f"model.lora.target {self.target!r} is no regular expression: {error}"
            ) from error


def load_model(
    checkpoint: Checkpoint,
    tune: Tune = "none",
    lora: LoRA | None = None,
    dtype: str = "auto",
    quantization: Quantization | None = None,
) -> nn.Module:
    """Load an image-text model and make trainable what `tune` says.

    An adapter is merged into the weights it was trained on, unless these are in four bits: then
    it stays beside them.

    Args:
        checkpoint: shipped name, folder or hub id of a whole model, folder of a PEFT adapter, or
            the parts of a LLaVA.
        tune: `lora` (adapters and projector), `full` (all but the vision tower) or `none`.
        lora: the adapters' shape.
        dtype: of the weights, `auto` for the checkpoint's own; what is trained is kept in fp32.
        quantization: keep the language model's frozen weights in four bits.

    Raises:
        UserError: four-bit weights are to be trained, or an adapter on four bits tuned further.
    """
    if quantization is not None and tune == "full":
        raise UserError("model.tune full cannot train four-bit weights; set model.tune to lora")
    place = resolve_checkpoint(checkpoint)
    if is_adapter(place):
        # the base may itself be an adapter that a fit wrote
        model = load_model(base_of(place), dtype=dtype, quantization=quantization)
        model = _with_adapter(unwrapped(model), place, tune)
    else:
        model = _load_whole(place, dtype, quantization)
    name = checkpoint if isinstance(checkpoint, str) else place
    return make_trainable(model, tune, lora or LoRA(), name)


def _with_adapter(model: Any, folder: str, tune: Tune) -> Any:  # noqa: ANN401
    """Merge an adapter, and say so where it was trained on other weights than it is merged into."""
    from peft import PeftModel

    adapted = PeftModel.from_pretrained(model, folder)
    if not is_quantised(model):
        if four_bit.remembered(folder) is not None and rank_zero():
            console.print(
                f"{folder} was trained on four-bit weights and is merged into the full ones; "
                "set model.quantization to see the model exactly as it was trained"
            )
        return adapted.merge_and_unload()
    if tune != "none":
        raise UserError(
            f"model.checkpoint {folder} is an adapter, which is not merged into four-bit weights; "
            "export it with --to hf first and give that"
        )
    return adapted


def _load_whole(name: str, dtype: str, quantization: Quantization | None) -> Any:  # noqa: ANN401
    place = resolve_checkpoint(name)
    options: dict[str, Any] = {"dtype": dtype}
    if quantization is not None:
        options["quantization_config"] = four_bit.bits_and_bytes(quantization, place)
    model = AutoModelForImageTextToText.from_pretrained(place, **options)
    if quantization is not None:
        four_bit.prepare(model)
    if model.config.model_type == "llava":
        _limit_vocabulary(model, place)
    return model


def _limit_vocabulary(model: Any, place: str) -> None:  # noqa: ANN401
    """Leave added rows out also where the checkpoint does not name them; its tokenizer shows them."""
    tokenizer = None
    if not hasattr(model.config, KEY):
        try:
            tokenizer = load_tokenizer(place)
        except (OSError, ValueError):
            return  # weights alone
    size = own_vocabulary(model.config, tokenizer)
    if size < model.config.get_text_config().vocab_size:
        limit_vocabulary(model, size)


def make_trainable(model: Any, tune: Tune, lora: LoRA, checkpoint: str) -> nn.Module:  # noqa: ANN401
    """Freeze everything but what is tuned, which is moved to fp32."""
    model.requires_grad_(False)
    if tune == "lora":
        from peft import LoraConfig, get_peft_model

        parts = parts_of(model)
        config = LoraConfig(
            r=lora.r,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            bias="none",
            target_modules=lora.target or linear_layers(model, parts.language_model),
            modules_to_save=[parts.projector],
            task_type="CAUSAL_LM",
        )
        try:
            model = get_peft_model(model, config)
        except ValueError as error:
            raise UserError(
                f"model.lora.target {lora.target!r} is the whole name of no linear layer; give a "
                "pattern such as '.*language_model.*_proj', or null for every linear layer"
            ) from error
        # the name, not the folder it led to: a run folder can then be moved
        model.peft_config["default"].base_model_name_or_path = checkpoint
    elif tune == "full":
        tower = parts_of(model).vision_tower
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(is_projector(name) or not name.startswith(f"{tower}."))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    ready: nn.Module = model.train(tune != "none")  # Lightning leaves the mode of a fit to us
    return ready


def n_trained_lora(model: Any, lora: LoRA) -> int | None:  # noqa: ANN401
    r"""Count what `make_trainable` trains with adapters, without PEFT, whose import takes two CPU-seconds.

    .. math:: |projector| + \sum_{W \in \mathbb{R}^{m \times n}} r\,(m + n)

    over the weights W of the language model's linear layers.

    Args:
        model: of transformers, weights loaded or not.
        lora: shape of the adapters.

    Returns:
        Number of parameters; None where PEFT's own rules decide: for a pattern of the user's, and
        for layers of other kinds, such as experts, whose weights have three dimensions.
    """
    parts = parts_of(model)
    language = model.get_submodule(parts.language_model)
    if lora.target or any(parameter.ndim > 2 for parameter in language.parameters()):
        return None
    pattern = linear_layers(model, parts.language_model)
    adapted = [m for name, m in model.named_modules() if re.fullmatch(pattern, name)]
    if not all(isinstance(layer, nn.Linear) for layer in adapted):
        return None
    projector: nn.Module = model.get_submodule(parts.projector)
    widths: int = sum(layer.in_features + layer.out_features for layer in adapted)
    return sum(parameter.numel() for parameter in projector.parameters()) + lora.r * widths


def unwrapped(model: nn.Module) -> Any:  # noqa: ANN401 - transformers' auto class
    """The transformers model, adapters in place, without PEFT's envelope."""
    found: Any = model
    return found.get_base_model() if has_adapter(model) else model


def has_adapter(model: nn.Module) -> bool:
    """Whether the model is in PEFT's envelope."""
    # imported where a model is there already: with bitsandbytes it takes two CPU-seconds
    from peft import PeftModel

    return isinstance(model, PeftModel)


def save_model(
    model: Any,  # noqa: ANN401 - PEFT or transformers
    folder: Path,
    state: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write the adapter, or the whole model where there is none, as safetensors.

    Beside it goes what else is needed to load it again: the parts that the model was assembled
    of, and the precision of the weights that the adapter was trained on.

    Args:
        model: what was tuned.
        folder: to write to.
        state: the weights, where the model is cut over devices.
    """
    # without the option PEFT asks the hub whether the base model's vocabulary was changed
    options: dict[str, Any] = {}
    if has_adapter(model):
        options["save_embedding_layers"] = False
    if state is not None:
        options["state_dict"] = state
    model.save_pretrained(folder, safe_serialization=True, **options)
    (folder / CARD).unlink(missing_ok=True)  # PEFT's template, with nothing filled in
    inner = unwrapped(model)
    origin = Path(inner.name_or_path) / components.FILE
    if origin.is_file():
        shutil.copyfile(origin, folder / components.FILE)
    if is_quantised(inner):
        four_bit.remember(inner, folder)


def trained_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """The parameters that training changes, by name."""
    return {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}
