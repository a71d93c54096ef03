"""A model with its adapter beside the weights, so that the adapter's gradients can be taken."""

from __future__ import annotations

import torch
from torch import nn

from presel_lightning.models.checkpoint import Checkpoint, base_of, is_adapter, resolve_checkpoint
from presel_lightning.models.llava import LoRA, load_model, make_trainable, unwrapped
from presel_lightning.models.quantization import Quantization


def load_adapted(
    checkpoint: Checkpoint,
    lora: LoRA,
    dtype: str,
    quantization: Quantization | None,
    seed: int,
) -> nn.Module:
    """Load a model with its adapter, or with a new one where it was tuned whole, all frozen.

    A new adapter changes nothing yet: its second matrix is 0, so the first has gradients of 0.

    Args:
        checkpoint: folder that a fit has written, or any other checkpoint.
        lora: shape of a new adapter.
        dtype: of the frozen weights.
        quantization: of the frozen weights.
        seed: of a new adapter.
    """
    place = resolve_checkpoint(checkpoint)
    if is_adapter(place):
        from peft import PeftModel

        base = load_model(base_of(place), dtype=dtype, quantization=quantization)
        model: nn.Module = PeftModel.from_pretrained(unwrapped(base), place)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            base = load_model(place, dtype=dtype, quantization=quantization)
            model = make_trainable(base, "lora", lora, place)
    return model.requires_grad_(False).eval()


def adapter_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """Both matrices of every adapter, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and (".lora_A." in name or ".lora_B." in name)
    }
