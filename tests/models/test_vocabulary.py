from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForImageTextToText, LlamaForCausalLM

from presel_lightning.export.llava import export_llava
from presel_lightning.models import Components, build_llava, load_model
from presel_lightning.models.vocabulary import KEY
from tests.models import tiny


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRESEL_LIGHTNING_CACHE", str(tmp_path / "cache"))


def assembled(parts: Components) -> tuple[Path, int]:
    folder = build_llava(parts.language_model, parts.vision_tower, parts.projector)
    return folder, LlamaForCausalLM.from_pretrained(parts.language_model).config.vocab_size


def test_assembled_checkpoint_names_added_rows_to_other_programs(tmp_path: Path) -> None:
    folder, size = assembled(tiny.write_parts(tmp_path / "parts"))
    model: Any = AutoModelForImageTextToText.from_pretrained(folder)
    rows = model.get_input_embeddings().num_embeddings
    assert rows > size and getattr(model.config, KEY) == size
    assert model.generation_config.suppress_tokens == list(range(size, rows))


def test_checkpoint_that_does_not_say_is_limited_to_the_rows_before_the_image(
    tmp_path: Path,
) -> None:
    """As `llava-hf/llava-1.5-7b-hf`, whose rows behind the words are `<image>`, `<pad>` and filling."""
    folder, size = assembled(tiny.write_parts(tmp_path / "parts"))
    for name, key in (("config.json", KEY), ("generation_config.json", "suppress_tokens")):
        settings = json.loads((folder / name).read_text())
        del settings[key]
        (folder / name).write_text(json.dumps(settings))
    model: Any = load_model(str(folder))
    assert getattr(model.config, KEY) == size
    assert min(model.generation_config.suppress_tokens) == size


def test_image_token_amid_the_vocabulary_keeps_all_rows() -> None:
    model: Any = load_model("quickstart")
    assert not hasattr(model.config, KEY) and model.generation_config.suppress_tokens is None


def test_rows_that_the_language_model_came_with_stay_though_no_word_has_them(
    tmp_path: Path,
) -> None:
    """Vocabularies are padded before LLaVA too; `<image>` then takes one of these rows."""
    padded = tiny.write_parts(tmp_path / "parts", lambda path: tiny.sentencepiece_file(path) + 64)
    folder, size = assembled(padded)
    model: Any = load_model(str(folder))
    assert model.get_input_embeddings().num_embeddings == size == getattr(model.config, KEY)
    assert model.config.image_token_id < size and not model.generation_config.suppress_tokens
    out = export_llava(str(folder), tmp_path / "llava-out")
    assert json.loads((out / "config.json").read_text())["vocab_size"] == size
