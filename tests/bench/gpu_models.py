"""Models of the published sizes with random weights, built on the device; their floating-point work."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import (
    CLIPVisionConfig,
    Dinov2Config,
    Dinov2Model,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaImageProcessorPil,
)

from presel_lightning.models import LoRA, Processor, load_processor
from presel_lightning.models.llava import make_trainable, unwrapped
from presel_lightning.models.parts import parts_of
from presel_lightning.tasks import FineTune

PEAKS = {
    "H200": 989,
    "H100 PCIe": 756,
    "H100 NVL": 835,
    "H100": 989,
    "A100": 312,
    "L40S": 362,
    "L4": 121,
    "RTX 4090": 165,
}
"""Dense bf16 TFLOP/s by the makers' data sheets; the first name that a device's name holds."""


@dataclass(frozen=True)
class Size:
    """What is measured.

    Attributes:
        text: width, inner width, layers and heads of the language model.
        vision: the same of the vision tower.
        image: pixels of a side, and of a patch.
        vocabulary: tokens of the head.
        encoder: width and layers of DINOv2.
        lora: rank of the adapters.
        micro: batch sizes that are tried.
        samples: in the pool.
        answers: words of an answer, at least and at most.
        images: to embed, and how many at a time.
        rows: of the clustering, and its clusters.
    """

    text: tuple[int, int, int, int]
    vision: tuple[int, int, int, int]
    image: tuple[int, int]
    vocabulary: int
    encoder: tuple[int, int]
    lora: int
    micro: tuple[int, ...]
    samples: int
    answers: tuple[int, int]
    images: tuple[int, int]
    rows: tuple[int, int]

    @property
    def places(self) -> int:
        """Tokens of an image."""
        return (self.image[0] // self.image[1]) ** 2


SIZES = {
    # LLaVA-1.5-7B: vicuna-7b, CLIP-L at 336 pixels; DINOv2-base
    "7b": Size(
        text=(4096, 11008, 32, 32),
        vision=(1024, 4096, 24, 16),
        image=(336, 14),
        vocabulary=32064,
        encoder=(768, 12),
        lora=128,
        micro=(4, 8, 16, 32),
        samples=256,
        answers=(20, 200),
        images=(4096, 256),
        rows=(80_000, 800),
    ),
    "tiny": Size(
        text=(64, 128, 2, 4),
        vision=(32, 64, 3, 4),
        image=(28, 7),
        vocabulary=800,
        encoder=(64, 2),
        lora=4,
        micro=(2, 4),
        samples=12,
        answers=(2, 12),
        images=(8, 4),
        rows=(400, 4),
    ),
}


def llava(size: Size, device: str, dtype: torch.dtype) -> Any:
    """An untrained LLaVA."""
    width, inner, layers, heads = size.text
    v_width, v_inner, v_layers, v_heads = size.vision
    config: Any = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=v_width,
            intermediate_size=v_inner,
            num_hidden_layers=v_layers,
            num_attention_heads=v_heads,
            image_size=size.image[0],
            patch_size=size.image[1],
        ),
        text_config=LlamaConfig(
            vocab_size=size.vocabulary,
            hidden_size=width,
            intermediate_size=inner,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=4096,
        ),
        image_token_index=3,
        image_seq_length=size.places,
    )
    torch.manual_seed(0)
    kind: Any = LlavaForConditionalGeneration
    with torch.device(device):
        return kind._from_config(config, dtype=dtype).eval()


def dinov2(size: Size, device: str, dtype: torch.dtype) -> Any:
    """An untrained DINOv2 at 224 pixels."""
    width, layers = size.encoder
    config = Dinov2Config(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        image_size=518,
        patch_size=14,
    )
    torch.manual_seed(0)
    model: Any = Dinov2Model(config)
    return model.to(device, dtype).eval().requires_grad_(False)


class Untrained(FineTune):
    """A `FineTune` whose model is built on the device instead of read from a checkpoint."""

    def __init__(self, size: Size, device: str, dtype: torch.dtype, tune: Any) -> None:
        super().__init__(tune=tune, lora=replace(LoRA(), r=size.lora, alpha=2 * size.lora))
        self.size, self.place, self.kind = size, device, dtype

    def configure_model(self) -> None:
        """Build the weights once."""
        if self.model is None:
            built = llava(self.size, self.place, self.kind)
            self.model = make_trainable(built, self.tune, self.lora, "random")

    @property
    def processor(self) -> Processor:
        """The quickstart's tokenizer, whose tokens are the first of the vocabulary; CLIP's pixels."""
        shipped = load_processor("quickstart")
        side = {"height": self.size.image[0], "width": self.size.image[0]}
        images = LlavaImageProcessorPil(do_pad=True, size=side, crop_size=side)
        return Processor(shipped.tokenizer, images, self.size.places)

    def recompute(self, attention: str, checkpointing: bool) -> None:
        """Select the attention kernel, and whether activations are recomputed."""
        model = unwrapped(self.model)
        model.set_attn_implementation(attention)
        if checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
        else:
            model.activation_checkpointing_disable()


def training_flops(model: nn.Module, lengths: Sequence[int], answers: int) -> float:
    r"""Floating-point operations that a LoRA step needs, recomputation not counted.

    .. math:: \sum_i L_i (4 P + 6 A) + 12 n h \sum_i L_i^2 + 4 a V h + \sum_i
        (2 P_v p + 4 n_v h_v p^2 + 6 P_p p)

    A frozen weight costs 2 forward and 2 for the gradient of its input; a trained one 2 more for
    its own. P: frozen linear weights of the language model's layers, A: its adapters, n, h: layers
    and width, a: answer tokens (the head, V h, is applied there only), P_v, n_v, h_v: the vision
    tower's, forward only, P_p: the projector's, p: places of an image ([CLS] beside them in the
    tower). Attention matrices are counted whole.

    Args:
        model: LLaVA with adapters.
        lengths: tokens L_i of each sample, padding left out.
        answers: answer tokens of all samples.

    Source: Chowdhery et al. 2022 (PaLM), appendix B, with frozen weights.
    """
    inner = unwrapped(model)
    text, vision = inner.config.get_text_config(), inner.config.vision_config
    parts = parts_of(inner)
    language = inner.get_submodule(parts.language_model)
    adapted: list[Any] = [m for m in language.modules() if isinstance(m, LoraLayer)]
    frozen: int = sum(m.get_base_layer().weight.numel() for m in adapted)
    adapters = sum(p.numel() for m in adapted for n, p in m.named_parameters() if "lora_" in n)
    tokens, squares = sum(lengths), sum(length**2 for length in lengths)
    places = inner.config.image_seq_length
    tower = sum(
        m.weight.numel()
        for m in inner.get_submodule(parts.vision_tower).modules()
        if isinstance(m, nn.Linear | nn.Conv2d)
    )
    projector = sum(
        p.numel()
        for n, p in inner.named_parameters()
        if p.requires_grad and "lora_" not in n and p.ndim > 1
    )
    seen = places + 1
    image = 2 * tower * seen + 4 * vision.num_hidden_layers * vision.hidden_size * seen**2
    return float(
        tokens * (4 * frozen + 6 * adapters)
        + 12 * text.num_hidden_layers * text.hidden_size * squares
        + 4 * answers * text.vocab_size * text.hidden_size
        + len(lengths) * (image + 6 * projector * places)
    )


def peak_flops(name: str) -> float | None:
    """What a device could do in a second, where its data sheet is known here."""
    found = (teras for device, teras in PEAKS.items() if device in name)
    teras = next(found, None)
    return None if teras is None else teras * 1e12
