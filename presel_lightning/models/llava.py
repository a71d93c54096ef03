"""LLaVA in transformers 5: loaded, made trainable (LoRA or whole), saved as safetensors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AutoModelForImageTextToText

from presel_lightning.models.checkpoint import base_of, is_adapter, resolve_checkpoint

PROJECTOR = "multi_modal_projector"
VISION_TOWER = "vision_tower"

Tune = Literal["lora", "full", "none"]


@dataclass(frozen=True)
class LoRA:
    """Low-rank adapters of the language model; the projector is trained whole beside them.

    The defaults are those of LLaVA-1.5. The target is a full-match pattern because a list of
    names would also hit the q, k and v projections of the vision tower.
    """

    r: int = 128
    """Rank of the update."""
    alpha: int = 256
    """Scale of the update: alpha / r."""
    dropout: float = 0.05
    """Dropout before the adapter; above 0 a result holds for one device count only."""
    target: str = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
    """Pattern that a module's whole name must match."""


def load_model(
    checkpoint: str, tune: Tune = "none", lora: LoRA | None = None, dtype: str = "auto"
) -> nn.Module:
    """Load a LLaVA and make trainable what `tune` says.

    Args:
        checkpoint: shipped name, folder or hub id of a whole model, or folder of a PEFT adapter.
        tune: `lora` (adapters and projector), `full` (all but the vision tower) or `none`.
        lora: the adapters' shape.
        dtype: of the weights, `auto` for the checkpoint's own; what is trained is kept in fp32.
    """
    place = resolve_checkpoint(checkpoint)
    if is_adapter(place):
        model = PeftModel.from_pretrained(_load_whole(base_of(place), dtype), place)
        model = model.merge_and_unload()
    else:
        model = _load_whole(checkpoint, dtype)
    return make_trainable(model, tune, lora or LoRA(), checkpoint)


def _load_whole(checkpoint: str, dtype: str) -> Any:  # noqa: ANN401 - transformers' auto class
    return AutoModelForImageTextToText.from_pretrained(resolve_checkpoint(checkpoint), dtype=dtype)


def make_trainable(model: Any, tune: Tune, lora: LoRA, checkpoint: str) -> nn.Module:  # noqa: ANN401
    """Freeze everything but what is tuned, which is moved to fp32."""
    model.requires_grad_(False)
    if tune == "lora":
        config = LoraConfig(
            r=lora.r,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            bias="none",
            target_modules=lora.target,
            modules_to_save=[PROJECTOR],
            task_type="CAUSAL_LM",
        )
        model = get_peft_model(model, config)
        # the name, not the folder it led to: a run folder can then be moved
        model.peft_config["default"].base_model_name_or_path = checkpoint
    elif tune == "full":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(VISION_TOWER not in name)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    ready: nn.Module = model.train(tune != "none")  # Lightning leaves the mode of a fit to us
    return ready


def unwrapped(model: nn.Module) -> Any:  # noqa: ANN401 - transformers' auto class
    """The transformers model, adapters in place, without PEFT's envelope."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def save_model(model: Any, folder: Path) -> None:  # noqa: ANN401 - PEFT or transformers
    """Write the adapter, or the whole model where there is none, as safetensors."""
    # without the option PEFT asks the hub whether the base model's vocabulary was changed
    options = {"save_embedding_layers": False} if isinstance(model, PeftModel) else {}
    model.save_pretrained(folder, safe_serialization=True, **options)


def trained_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """The parameters that training changes, by name."""
    return {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}
