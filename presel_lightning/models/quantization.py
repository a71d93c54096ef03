"""Frozen weights in four bits (QLoRA)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, BitsAndBytesConfig

from presel_lightning.errors import UserError
from presel_lightning.models.parts import parts_of
from presel_lightning.run.files import read_json, write_json

FILE = "quantization.json"
"""Beside an adapter that was trained on four-bit weights."""
PACKS = "support_avx512bf16_for_cpu"
"""Attribute of a layer of bitsandbytes: whether it repacks its weights for inference on this CPU."""


@dataclass(frozen=True)
class Quantization:
    """The language model's linear layers in four bits; all else keeps its precision.

    Source: QLoRA (Dettmers et al. 2023), section 3.
    """

    bits: Literal[4] = 4
    """Bits of a weight."""
    kind: Literal["nf4", "fp4"] = "nf4"
    """The sixteen values that a weight may take; nf4 suits normally distributed ones."""
    double_quant: bool = True
    """Quantise the scales too, which saves 0.37 bits a weight."""
    compute_dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """What a layer multiplies in."""


def bits_and_bytes(quantization: Quantization, place: str) -> BitsAndBytesConfig:
    """Say to transformers which layers of a checkpoint are quantised, and how.

    Layers to leave out are named from the root: a bare `vision_tower` would match nothing.

    Raises:
        UserError: bitsandbytes is not installed.
    """
    if find_spec("bitsandbytes") is None:
        raise UserError(
            "model.quantization needs bitsandbytes; pip install 'presel-lightning[bnb]'"
        )
    config = AutoConfig.from_pretrained(place)
    with torch.device("meta"):
        parts = parts_of(AutoModelForImageTextToText.from_config(config))
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=quantization.kind,
        bnb_4bit_use_double_quant=quantization.double_quant,
        bnb_4bit_compute_dtype=getattr(torch, quantization.compute_dtype),
        llm_int8_skip_modules=[parts.vision_tower, parts.projector, parts.head],
    )


def is_quantised(model: Any) -> bool:  # noqa: ANN401 - PEFT or transformers
    """Whether some of a model's weights are in four bits."""
    return bool(getattr(model, "is_loaded_in_4bit", False))


def prepare(model: Any) -> None:  # noqa: ANN401 - transformers' auto class
    """Make a quantised model fit to be trained on: the language model's norms in fp32.

    Embeddings, head and vision tower stay as they are, as in LLaVA; in fp32 they would take
    2 GB more on a 7B model. Layers compute alike on every CPU: bitsandbytes would repack their
    weights for inference on one with AVX512-BF16, which changes the result and fails where the
    width is no multiple of 32.
    """
    for layer in model.modules():
        if hasattr(layer, PACKS):
            setattr(layer, PACKS, False)
    language: nn.Module = model.get_decoder()
    for parameter in language.parameters():
        if parameter.ndim == 1 and parameter.is_floating_point():
            parameter.data = parameter.data.float()


def remember(model: Any, folder: Path) -> None:  # noqa: ANN401 - transformers' auto class
    """Write beside an adapter which four-bit weights it was trained on."""
    settings = model.config.quantization_config
    known = Quantization(
        kind=settings.bnb_4bit_quant_type,
        double_quant=settings.bnb_4bit_use_double_quant,
        compute_dtype=str(settings.bnb_4bit_compute_dtype).removeprefix("torch."),  # type: ignore[arg-type]
    )
    write_json(folder / FILE, asdict(known))


def remembered(folder: str | Path) -> Quantization | None:
    """What an adapter was trained on; None for weights of full precision."""
    path = Path(folder) / FILE
    return Quantization(**read_json(path)) if path.is_file() else None
