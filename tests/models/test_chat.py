"""Models with a processor of their own: tiny ones of Qwen2.5-VL's and LLaVA-OneVision's kind."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from presel_lightning.errors import UserError
from presel_lightning.export.hf import export_hf_merged
from presel_lightning.loading.chat_encoder import ChatEncoder
from presel_lightning.models import LoRA, is_projector, load_model, load_processor
from presel_lightning.models.chat import (
    chat_batch,
    chat_processor,
    cut,
    prompt_batch,
)
from presel_lightning.models.forward import answer_losses
from presel_lightning.models.llava import save_model, trained_state, unwrapped
from presel_lightning.models.own_processor import load_chat_processor
from presel_lightning.models.parts import parts_of
from presel_lightning.records import Turn
from tests.models.tiny import picture
from tests.models.tiny_chat import CHAT_ML, MODELS, encode_chat, write_chat_model

TURNS = (Turn("what?", "a red cat"), Turn("how many?", "2"))


@pytest.fixture(scope="module", params=MODELS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_chat_model(request.param, tmp_path_factory.mktemp("chat"))


def small(folder: str, **options: Any) -> Any:
    return load_model(folder, "lora", LoRA(r=4, alpha=8, dropout=0.0, **options), "float32")


def test_encode_chat_labels_answers_and_end_of_turn(folder: str) -> None:
    processor = load_chat_processor(folder)
    encoded = encode_chat(processor, TURNS, picture())
    labels = encoded["labels"][0]
    assert encoded["input_ids"].shape == encoded["labels"].shape
    text = processor.tokenizer.decode(labels[labels >= 0])
    assert text.replace("\n", "") == "a red cat<|im_end|>2<|im_end|>"
    shown = encoded["input_ids"][0][labels >= 0]
    assert torch.equal(shown, labels[labels >= 0])


def test_encode_chat_without_question_keeps_image_and_answers(folder: str) -> None:
    processor = load_chat_processor(folder)
    encoded = encode_chat(processor, TURNS, picture(), with_question=False)
    text = processor.tokenizer.decode(encoded["input_ids"][0])
    assert "what?" not in text and "how many?" not in text
    assert text.count("assistant") == 1 and "a red cat 2<|im_end|>" in text
    full = encode_chat(processor, TURNS, picture())
    assert torch.equal(encoded["pixel_values"], full["pixel_values"])
    places = [int((b["input_ids"] == processor.image_token_id).sum()) for b in (encoded, full)]
    assert places[0] == places[1] > 1


def test_chat_encoder_keeps_the_image_in_its_turn_unless_cut(folder: str) -> None:
    first = (Turn("what? " * 40, "a red cat"), TURNS[1])
    later = (first[0], replace(first[1], image_here=True))
    own = load_chat_processor(folder)
    ids = encode_chat(own, later, picture())["input_ids"][0]
    place = int((ids == own.image_token_id).nonzero()[0])
    before = own.tokenizer.decode(ids[:place])
    assert "a red cat" in before and "how many?" not in before
    processor = chat_processor(folder)
    whole = ChatEncoder(processor, 999).batch([{"chat": (later, picture())}])
    assert torch.equal(whole["input_ids"][0], ids)
    short = ChatEncoder(processor, place + 1)
    wanted, found = (
        short.batch([{"chat": (turns, picture())}])["input_ids"] for turns in (first, later)
    )
    assert torch.equal(wanted, found), "an image that would be cut is shown first"
    beside = ((Turn("what?", "a cat"), replace(TURNS[1], image_here=True)), picture())
    alone = short.batch([{"chat": beside}])["input_ids"][0]
    batch = short.batch([{"chat": (later, picture())}, {"chat": beside}])["input_ids"]
    assert torch.equal(batch[0, : place + 1], wanted[0])
    assert torch.equal(batch[1, : len(alone)], alone), "and no other one of its batch"


def test_answer_losses_of_a_batch_equal_single_samples(folder: str) -> None:
    processor = load_chat_processor(folder)
    model = load_model(folder, dtype="float32")
    chats = [(TURNS, picture(40, 25)), (TURNS[:1], picture(16, 30)), (TURNS, None)]
    with torch.no_grad():
        sums, counts = answer_losses(model, chat_batch(processor, chats))
        for row, (turns, image) in enumerate(chats):
            alone = encode_chat(processor, turns, image)
            loss = unwrapped(model)(**alone).loss
            torch.testing.assert_close(sums[row] / counts[row], loss, rtol=1e-4, atol=1e-4)


def test_lora_trains_language_model_adapters_and_projector(folder: str) -> None:
    model = small(folder)
    parts = parts_of(unwrapped(model))
    trained = list(trained_state(model))
    projector = [name for name in trained if is_projector(name)]
    adapters = [name for name in trained if not is_projector(name)]
    assert projector and all(parts.projector in name for name in projector)
    assert len(adapters) == 2 * 7 * 2  # layers, projections, A and B
    assert all(parts.language_model in name and "lora_" in name for name in adapters)


def test_full_tuning_freezes_the_vision_tower(folder: str) -> None:
    model = load_model(folder, "full", dtype="float32")
    tower = parts_of(model).vision_tower
    for name, parameter in model.named_parameters():
        outside = is_projector(name) or not name.startswith(tower)
        assert parameter.requires_grad == outside


def test_training_lowers_the_loss_and_survives_a_round_trip(folder: str, tmp_path: Path) -> None:
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


def test_cut_batch_removes_only_tokens_after_its_images(folder: str) -> None:
    own = load_chat_processor(folder)
    whole = chat_batch(own, [(TURNS, picture()), (TURNS[:1], picture(20, 30))])
    ids, image = whole["input_ids"], own.image_token_id
    last = int((ids == image).nonzero()[:, 1].max())
    short = cut(whole, last + 3, image)
    for name, value in whole.items():
        by_token = value.shape == ids.shape
        assert torch.equal(short[name], value[:, : last + 3] if by_token else value)
    sums, counts = answer_losses(load_model(folder, dtype="float32"), short)
    assert sums.shape == counts.shape == (2,)
    with pytest.raises(UserError, match=r"data\.max_length .* is too short"):
        cut(whole, last, image)


def test_prompt_batch_is_a_prefix_of_the_training_text(folder: str) -> None:
    own = load_chat_processor(folder)
    image = picture()
    batch = prompt_batch(own, [(TURNS[:1], "how many?", image), ((), "what?", picture(16, 30))])
    assert batch["attention_mask"][:, -1].all() and not batch["attention_mask"][:, 0].all()
    row = batch["input_ids"][0][batch["attention_mask"][0].bool()]
    trained = encode_chat(own, TURNS, image)["input_ids"][0][: len(row)]
    prompt, known = own.tokenizer.decode(row), own.tokenizer.decode(trained)
    # OneVision's template writes a space after a role, but not where it invites to answer
    assert prompt.replace(" ", "")[:-1] in known.replace(" ", "") or prompt == known
    assert prompt.endswith("<|im_start|>assistant\n")


def test_chat_processor_pickle_round_trip_encodes_equally(folder: str) -> None:
    processor = chat_processor(folder)
    again = pickle.loads(pickle.dumps(processor))
    for name, value in encode_chat(processor.own, TURNS, picture()).items():
        assert torch.equal(encode_chat(again.own, TURNS, picture())[name], value)


def test_load_processor_of_another_model_type_raises_user_error(folder: str) -> None:
    with pytest.raises(UserError, match=r"of type '(qwen2_5_vl|llava_onevision)'"):
        load_processor(folder)


def test_encode_chat_template_that_rewrites_turns_raises(folder: str) -> None:
    processor = load_chat_processor(folder)
    processor.chat_template = CHAT_ML.replace("{{ m.role }}", "{{ m.role }}{{ loop.length }}")
    with pytest.raises(UserError, match="answers cannot be separated"):
        encode_chat(processor, TURNS, picture())


def test_parts_of_unsupported_model_type_raises_user_error() -> None:
    from transformers import BlipForConditionalGeneration
    from transformers.models.blip import BlipConfig

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "vocab_size": 40}
    heads = {"num_attention_heads": 2}
    model = BlipForConditionalGeneration(
        BlipConfig(text_config={**sizes, **heads}, vision_config={**sizes, **heads})
    )
    with pytest.raises(UserError, match="model type 'blip'"):
        parts_of(model)
