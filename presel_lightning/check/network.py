"""Size of the model and of its trained part, counted on the meta device without weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForImageTextToText

from presel_lightning.check.origin import brief, config_at, origin_of
from presel_lightning.check.report import Report
from presel_lightning.errors import UserError
from presel_lightning.models import Quantization, efficientnet
from presel_lightning.models.checkpoint import name_of
from presel_lightning.models.llava import make_trainable, n_trained_lora
from presel_lightning.models.parts import parts_of
from presel_lightning.tasks import Embed, FineTune

FOUR_BITS = {True: 4.127, False: 4.5}
"""Bits of a weight in nf4 with its scales, by double quantization (QLoRA, section 3)."""


@dataclass(frozen=True)
class Network:
    """The size of a model.

    Attributes:
        total: parameters before adapters are added.
        trained: trainable parameters.
        frozen_bytes: memory of the frozen parameters.
        hidden: hidden size of the language model.
        layers: layers of the language model.
        vocabulary: vocabulary size of the head.
        cached: elements of the KV cache per token, over all layers.
    """

    total: int
    trained: int
    frozen_bytes: float
    hidden: int
    layers: int
    vocabulary: int
    cached: int = 0


def measure(module: FineTune, config: Any) -> Network:  # noqa: ANN401 - one class a model
    """Count the parameters of a module's network.

    Args:
        module: sets what is tuned, and the precision of the frozen part.
        config: configuration of the model, from `read_config`.

    Raises:
        UserError: it is not an image-text model, or its parts cannot be identified.
    """
    four_bit: Quantization | None = getattr(module, "quantization", None)
    try:
        with torch.device("meta"):
            model = AutoModelForImageTextToText.from_config(config)
            total = sum(p.numel() for p in model.parameters())
            packed = n_linear(model) if four_bit is not None else 0
            trained, frozen = n_tuned(model, module)
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"model.checkpoint {name_of(origin_of(module))}: {brief(error)}; give an image-text model "
            "in transformers format"
        ) from error
    bits = FOUR_BITS[four_bit.double_quant] if four_bit is not None else 0
    text = config.get_text_config()
    return Network(
        total=total,
        trained=trained,
        frozen_bytes=(frozen - packed) * dtype_width(module.dtype_name, config) + packed * bits / 8,
        hidden=text.hidden_size,
        layers=text.num_hidden_layers,
        vocabulary=text.vocab_size,
        cached=numbers_cached(text),
    )


def n_tuned(model: Any, module: FineTune) -> tuple[int, int]:  # noqa: ANN401 - transformers' auto class
    """Return the trained and the frozen parameters of a model, with its adapters.

    Args:
        model: on the meta device; it is changed.
        module: sets what is tuned.
    """
    total = sum(p.numel() for p in model.parameters())
    if module.tune == "lora" and (trained := n_trained_lora(model, module.lora)) is not None:
        return trained, total  # the projector is trained as a copy
    tuned = make_trainable(model, module.tune, module.lora, name_of(origin_of(module)))
    trained = sum(p.numel() for p in tuned.parameters() if p.requires_grad)
    return trained, sum(p.numel() for p in tuned.parameters() if not p.requires_grad)


def numbers_cached(text: Any) -> int:  # noqa: ANN401 - transformers has one class a model
    """Return the cached keys and values of a token, over all layers of a language model."""
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return int(2 * text.num_hidden_layers * heads * width)


def n_linear(model: Any) -> int:  # noqa: ANN401 - transformers' auto class
    """Return the weights of the language model's linear layers, which four bits apply to."""
    language = model.get_submodule(parts_of(model).language_model)
    layers = (m for m in language.modules() if isinstance(m, nn.Linear))
    return sum(layer.weight.numel() for layer in layers)


def dtype_width(dtype: str, config: Any) -> int:  # noqa: ANN401 - transformers has one class a model
    """Return the bytes of a frozen weight."""
    kind = getattr(torch, dtype) if dtype != "auto" else getattr(config, "dtype", None)
    return (kind or torch.float32).itemsize


def feature_width(module: Embed) -> int:
    """Return the feature dimension of the image encoder.

    Raises:
        UserError: the encoder cannot be read.
    """
    if module.checkpoint == efficientnet.NAME:
        efficientnet.weights_file()
        return efficientnet.WIDTH
    config = config_at(module.checkpoint, "stages.features.model.checkpoint")
    config = getattr(config, "vision_config", config)
    found: int = getattr(config, "hidden_size", None) or config.hidden_sizes[-1]
    return found


def report_network(network: Network, module: FineTune, report: Report) -> None:
    """Report the trained and frozen parameters."""
    name = name_of(origin_of(module))
    part = 100 * network.trained / network.total
    report.add("model", "parameters", f"{network.total / 1e6:,.1f} M in {name}")
    report.add(
        "model", f"trained ({module.tune})", f"{network.trained / 1e6:,.1f} M ({part:.1f} %)"
    )
    if network.trained == 0:
        report.notes.append(f"model.tune is {module.tune}: nothing is trained")
