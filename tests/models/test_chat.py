"""Models with a processor of their own: tiny ones of Qwen2.5-VL's and LLaVA-OneVision's kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers import models as kinds
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessorPil,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen2VLImageProcessorPil,
    SiglipVisionConfig,
)
from transformers.image_processing_utils import BaseImageProcessor

from presel_lightning.errors import UserError
from presel_lightning.export.hf import export_hf_merged
from presel_lightning.models import LoRA, is_projector, load_model, load_processor
from presel_lightning.models.chat import answer_losses, chat_batch, encode_chat, load_chat_processor
from presel_lightning.models.llava import save_model, trained_state, unwrapped
from presel_lightning.models.parts import parts_of
from presel_lightning.records import Turn
from presel_lightning.store import write_json
from tests.models.tiny import picture

SPECIAL = ["<|end|>", "<|im_start|>", "<|im_end|>", "<|image_pad|>", "<|video_pad|>"]
SPECIAL += ["<|vision|>", "<|vend|>", "<image>", "<video>"]
TURNS = (Turn("what?", "a red cat"), Turn("how many?", "2"))
CHAT_ML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}"
    "{% if c.type == 'image' %}<|vision|><|image_pad|><|vend|>{% else %}{{ c.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As Qwen writes: nothing marks the answers."""
MARKED = (
    "{% for m in messages %}<|im_start|>{{ m.role + ' ' }}"
    "{% for c in m.content if c.type == 'image' %}<image>{{ '\n' }}{% endfor %}"
    "{% for c in m.content if c.type == 'text' %}{% if m.role == 'assistant' %}"
    "{% generation %}{{ '\n' + c.text }}{% endgeneration %}{% else %}{{ '\n' + c.text }}"
    "{% endif %}{% endfor %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As LLaVA-OneVision writes: answers are marked, their ends are not, and the invitation to answer
differs from what is written (by a space)."""


def tokenizer(template: str) -> Any:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *letters])}
    inner = Tokenizer(kinds.BPE(vocabulary, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    made: Any = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|im_end|>")
    made.pad_token = "<|end|>"
    made.add_special_tokens({"extra_special_tokens": SPECIAL[1:]})
    made.chat_template = template
    return made


TEXT: dict[str, Any] = {
    "vocab_size": 9 + 256,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
    "bos_token_id": None,
    "eos_token_id": 2,
}


def qwen() -> tuple[Any, BaseImageProcessor, str]:
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 4,
        "patch_size": 4,
        "window_size": 16,
        "out_hidden_size": 32,
        "fullatt_block_indexes": [1],
    }
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    config = Qwen2_5_VLConfig(
        vision_config=vision,
        text_config={**TEXT, "rope_parameters": rope},
        image_token_id=3,
        video_token_id=4,
        vision_start_token_id=5,
        vision_end_token_id=6,
    )
    images = Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, size={"shortest_edge": 64, "longest_edge": 1024}
    )
    return Qwen2_5_VLForConditionalGeneration(config), images, CHAT_ML


def onevision() -> tuple[Any, BaseImageProcessor, str]:
    vision = SiglipVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=16,
        patch_size=4,
        vision_use_head=False,
    )
    grid = [[16, 16], [16, 32], [32, 16]]
    config = LlavaOnevisionConfig(
        vision_config=vision,
        text_config=Qwen2Config(**TEXT),
        image_token_index=7,
        video_token_index=8,
        image_grid_pinpoints=grid,
    )
    images = LlavaOnevisionImageProcessorPil(
        size={"height": 16, "width": 16}, image_grid_pinpoints=grid
    )
    return LlavaOnevisionForConditionalGeneration(config), images, MARKED


@pytest.fixture(scope="module", params=[qwen, onevision], ids=["qwen2_5_vl", "llava_onevision"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    model, images, template = request.param()
    place: Path = tmp_path_factory.mktemp("chat")
    model.save_pretrained(place)
    tokenizer(template).save_pretrained(place)
    images.save_pretrained(place)
    if isinstance(model, LlavaOnevisionForConditionalGeneration):
        settings = {"num_image_tokens": 16, "vision_feature_select_strategy": "full"}
        write_json(place / "processor_config.json", settings)
    return str(place)


def small(folder: str, **options: Any) -> Any:
    return load_model(folder, "lora", LoRA(r=4, alpha=8, dropout=0.0, **options), "float32")


def test_labels_are_the_answers_and_their_ends(folder: str) -> None:
    processor = load_chat_processor(folder)
    encoded = encode_chat(processor, TURNS, picture())
    labels = encoded["labels"][0]
    assert encoded["input_ids"].shape == encoded["labels"].shape
    text = processor.tokenizer.decode(labels[labels >= 0])
    assert text.replace("\n", "") == "a red cat<|im_end|>2<|im_end|>"
    shown = encoded["input_ids"][0][labels >= 0]
    assert torch.equal(shown, labels[labels >= 0])


def test_without_questions_the_image_and_all_answers_are_left(folder: str) -> None:
    processor = load_chat_processor(folder)
    encoded = encode_chat(processor, TURNS, picture(), with_question=False)
    text = processor.tokenizer.decode(encoded["input_ids"][0])
    assert "what?" not in text and "how many?" not in text
    assert text.count("assistant") == 1 and "a red cat 2<|im_end|>" in text
    full = encode_chat(processor, TURNS, picture())
    assert torch.equal(encoded["pixel_values"], full["pixel_values"])
    places = [int((b["input_ids"] == processor.image_token_id).sum()) for b in (encoded, full)]
    assert places[0] == places[1] > 1


def test_a_batch_gives_each_sample_its_own_loss(folder: str) -> None:
    processor = load_chat_processor(folder)
    model = load_model(folder, dtype="float32")
    chats = [(TURNS, picture(40, 25)), (TURNS[:1], picture(16, 30)), (TURNS, None)]
    with torch.no_grad():
        sums, counts = answer_losses(model, chat_batch(processor, chats))
        for row, (turns, image) in enumerate(chats):
            alone = encode_chat(processor, turns, image)
            loss = unwrapped(model)(**alone).loss
            torch.testing.assert_close(sums[row] / counts[row], loss, rtol=1e-4, atol=1e-4)


def test_lora_is_on_the_language_model_and_the_projector_beside_it(folder: str) -> None:
    model = small(folder)
    parts = parts_of(unwrapped(model))
    trained = list(trained_state(model))
    projector = [name for name in trained if is_projector(name)]
    adapters = [name for name in trained if not is_projector(name)]
    assert projector and all(parts.projector in name for name in projector)
    assert len(adapters) == 2 * 7 * 2  # layers, projections, A and B
    assert all(parts.language_model in name and "lora_" in name for name in adapters)


def test_full_tuning_leaves_the_vision_tower_alone(folder: str) -> None:
    model = load_model(folder, "full", dtype="float32")
    tower = parts_of(model).vision_tower
    for name, parameter in model.named_parameters():
        outside = is_projector(name) or not name.startswith(tower)
        assert parameter.requires_grad == outside


def test_training_lowers_the_loss_and_comes_back(folder: str, tmp_path: Path) -> None:
    processor = load_chat_processor(folder)
    batch = chat_batch(processor, [(TURNS, picture()), (TURNS[:1], picture(20, 30))])
    model = small(folder)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-2)
    losses = []
    for _ in range(15):
        loss = answer_losses(model, batch)[0].sum()
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]
    save_model(model, tmp_path / "run")
    with torch.no_grad():
        expected, _ = answer_losses(model.eval(), batch)
        found, _ = answer_losses(load_model(str(tmp_path / "run"), dtype="float32"), batch)
        merged = str(export_hf_merged(str(tmp_path / "run"), tmp_path / "merged"))
        alone, _ = answer_losses(load_model(merged, dtype="float32"), batch)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(alone, expected, rtol=1e-4, atol=1e-4)
    again = encode_chat(load_chat_processor(merged), TURNS, picture())
    for name, value in encode_chat(processor, TURNS, picture()).items():
        assert torch.equal(again[name], value)


def test_llavas_own_encoder_does_not_take_it(folder: str) -> None:
    with pytest.raises(UserError, match=r"of type '(qwen2_5_vl|llava_onevision)'"):
        load_processor(folder)


def test_a_template_that_rewrites_turns_is_told(folder: str) -> None:
    processor = load_chat_processor(folder)
    processor.chat_template = CHAT_ML.replace("{{ m.role }}", "{{ m.role }}{{ loop.length }}")
    with pytest.raises(UserError, match="answers cannot be told"):
        encode_chat(processor, TURNS, picture())


def test_a_model_without_these_parts_is_told() -> None:
    from transformers import BlipForConditionalGeneration
    from transformers.models.blip import BlipConfig

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "vocab_size": 40}
    heads = {"num_attention_heads": 2}
    model = BlipForConditionalGeneration(
        BlipConfig(text_config={**sizes, **heads}, vision_config={**sizes, **heads})
    )
    with pytest.raises(UserError, match="model type 'blip'"):
        parts_of(model)
