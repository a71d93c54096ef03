"""Tiny parts of a LLaVA under their real file names, and LLaVA's own computation on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from sentencepiece import sentencepiece_model_pb2
from torch.nn.functional import gelu, linear
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from presel_lightning.models import Components

WORDS = "▁ U A a ER US SER USER S T SIS TANT AS ASSIS ASSISTANT : ▁a ▁re d ▁red ▁c at ▁cat 1 2 . ?"
SIDE, PATCH = 28, 7
PLACES = (SIDE // PATCH) ** 2
VISION, TEXT = 24, 64


def sentencepiece_file(path: Path) -> int:
    """A tokenizer.model of Llama's kind; returns its size."""
    pb2: Any = sentencepiece_model_pb2
    model = pb2.ModelProto()
    model.trainer_spec.model_type = pb2.TrainerSpec.BPE
    model.trainer_spec.byte_fallback = True
    model.trainer_spec.unk_id, model.trainer_spec.bos_id = 0, 1
    model.trainer_spec.eos_id, model.trainer_spec.pad_id = 2, -1
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = True
    model.normalizer_spec.remove_extra_whitespaces = False
    kinds = pb2.ModelProto.SentencePiece
    special = [("<unk>", kinds.UNKNOWN), ("<s>", kinds.CONTROL), ("</s>", kinds.CONTROL)]
    special += [(f"<0x{byte:02X}>", kinds.BYTE) for byte in range(256)]
    for piece, kind in special:
        model.pieces.append(kinds(piece=piece, score=0, type=kind))
    for rank, piece in enumerate(WORDS.split()):
        model.pieces.append(kinds(piece=piece, score=-rank, type=kinds.NORMAL))
    path.write_bytes(model.SerializeToString())
    return len(model.pieces)


def write_parts(
    root: Path, tokenizer: Callable[[Path], int] = sentencepiece_file, **llama: Any
) -> Components:
    """vicuna/ (Llama with tokenizer.model), clip/ and mm_projector.bin, random.

    `tokenizer` writes the file and returns its size; `llama` is put into the language model's
    configuration.
    """
    torch.manual_seed(0)
    language, vision = root / "vicuna", root / "clip"
    language.mkdir(parents=True)
    size = tokenizer(language / "tokenizer.model")
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=TEXT,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        initializer_range=0.1,
        pad_token_id=0,
        **llama,
    )
    LlamaForCausalLM(config).save_pretrained(language)
    eyes = CLIPVisionConfig(
        hidden_size=VISION,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=PATCH,
        projection_dim=16,
        initializer_range=0.2,
    )
    CLIPVisionModel(eyes).save_pretrained(vision)
    CLIPImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    ).save_pretrained(vision)
    torch.save(projector_state(), root / "mm_projector.bin")
    return Components(str(language), str(vision), str(root / "mm_projector.bin"))


def projector_state() -> dict[str, torch.Tensor]:
    """A random projector by LLaVA's names."""
    return {
        "model.mm_projector.0.weight": torch.randn(TEXT, VISION) / 4,
        "model.mm_projector.0.bias": torch.randn(TEXT) / 4,
        "model.mm_projector.2.weight": torch.randn(TEXT, TEXT) / 4,
        "model.mm_projector.2.bias": torch.randn(TEXT) / 4,
    }


@torch.no_grad()
def literal_logits(
    language: LlamaForCausalLM,
    vision: Any,
    projector: dict[str, torch.Tensor],
    ids: list[int],
    pixels: torch.Tensor,
    first: int = 1,
) -> torch.Tensor:
    """LLaVA's forward, written out: one sequence with -200 where the image stands; (L', V).

    `first` is the place of the vision tower's first patch.
    """
    states = vision(pixel_values=pixels[None], output_hidden_states=True).hidden_states
    features = states[-2][:, first:]  # (1, 16, D_v)
    w = {name.removeprefix("model.mm_projector."): tensor for name, tensor in projector.items()}
    hidden = gelu(linear(features, w["0.weight"], w["0.bias"]))
    image = linear(hidden, w["2.weight"], w["2.bias"])[0]  # (16, D)
    place = ids.index(-200)
    embed = language.get_input_embeddings()
    before, after = torch.tensor(ids[:place]), torch.tensor(ids[place + 1 :])
    spliced = torch.cat([embed(before), image, embed(after)])[None]
    logits: torch.Tensor = language(inputs_embeds=spliced).logits[0]
    return logits


IDS = [1, 268, 262, 30, -200, 16, 270, 261, 265, 280, 259, 2]
"""Some text with an image in it, as LLaVA writes it."""


@torch.no_grad()
def our_logits(model: Any, ids: list[int], pixels: torch.Tensor, image: int) -> torch.Tensor:
    """Logits of a transformers LLaVA on the same sequence, places written out; (L', V)."""
    place = ids.index(-200)
    written = ids[:place] + [image] * PLACES + ids[place + 1 :]
    logits: torch.Tensor = model(
        input_ids=torch.tensor([written]), pixel_values=pixels[None]
    ).logits[0]
    return logits


def picture(width: int = 40, height: int = 25) -> Image.Image:
    """A picture that is not square."""
    torch.manual_seed(width)
    return Image.fromarray(torch.randint(0, 255, (height, width, 3), dtype=torch.uint8).numpy())
