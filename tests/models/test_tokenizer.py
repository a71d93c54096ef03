"""Llama's tokenizer beside sentencepiece itself, used as LLaVA uses it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from presel_lightning.loading.tokens import encode
from presel_lightning.models import Components, build_llava, load_processor
from presel_lightning.models.tokenizer import load_tokenizer
from tests.models import tiny
from tests.models.llama_file import SPACES, SlowLlama, conversation, proto_of, text, write_trained

N_TEXTS = 3000


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRESEL_LIGHTNING_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module", params=[False, True, None], ids=["first", "legacy", "unsaid"])
def parts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Components:
    folder = tmp_path_factory.mktemp("parts")
    return tiny.write_parts(folder, partial(write_trained, legacy=request.param))


@pytest.fixture(scope="module")
def slow(parts: Components) -> SlowLlama:
    folder = Path(parts.language_model)
    settings = folder / "tokenizer_config.json"
    legacy = not settings.is_file() or json.loads(settings.read_text())["legacy"]
    return SlowLlama(folder / "tokenizer.model", legacy=legacy)


def texts() -> list[str]:
    rng = np.random.default_rng(1)
    return [(conversation if number % 2 else text)(rng) for number in range(N_TEXTS)]


def test_trained_file_splits_as_llama_does(slow: SlowLlama) -> None:
    assert slow.pieces.encode("the  dog", out_type=str)[-2:] == ["▁", "▁dog"]
    assert slow.pieces.encode("USER", out_type=str) == ["▁US", "ER"]
    assert slow.bare.encode("USER", out_type=str) == ["USER"]
    assert slow.pieces.piece_to_id("▁▁") < slow.pieces.piece_to_id("▁a")
    assert slow.pieces.get_score(slow.pieces.piece_to_id("▁" * max(SPACES))) == -1e9


def test_assembled_tokenizer_any_text_gives_llavas_ids(parts: Components, slow: SlowLlama) -> None:
    tokenizer = load_processor(parts).tokenizer
    assert tokenizer.convert_tokens_to_ids("<image>") == slow.image
    for one in texts():
        assert encode(one, tokenizer, 1).input_ids == slow.with_image(one), one


def test_assembled_tokenizer_read_by_transformers_gives_llavas_chunks(
    parts: Components, slow: SlowLlama
) -> None:
    plain = AutoTokenizer.from_pretrained(
        build_llava(parts.language_model, parts.vision_tower, parts.projector)
    )
    for one in texts():
        for chunk in one.split("<image>"):
            assert plain(chunk)["input_ids"] == slow(chunk), chunk


def test_decoded_ids_are_the_text(parts: Components, slow: SlowLlama) -> None:
    tokenizer = load_processor(parts).tokenizer
    for one in (" a  b\n\tdef 猫 🙂", "x"):
        assert tokenizer.decode(slow(one), skip_special_tokens=True) == one


def test_tokenizer_json_beside_the_model_wins(tmp_path: Path) -> None:
    """It is what a model was published with, whatever the other file says."""
    write_trained(tmp_path / "tokenizer.model")
    load_tokenizer(str(tmp_path)).save_pretrained(tmp_path / "json")
    made = json.loads((tmp_path / "json" / "tokenizer.json").read_text())
    made["model"]["merges"] = [pair for pair in made["model"]["merges"] if "".join(pair) != "▁the"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(made))
    without = load_tokenizer(str(tmp_path)).tokenize("the  dog")
    assert "▁the" not in without and without[-2:] == ["▁", "▁dog"]


@pytest.mark.parametrize("legacy", [True, False])
def test_tokenizer_json_of_transformers_own_class_treats_spaces_as_llava(
    tmp_path: Path, legacy: bool
) -> None:
    """Written by the class whose reading leaves out a space; `legacy` shows in the file alone."""
    write_trained(tmp_path / "tokenizer.model", legacy)
    load_tokenizer(str(tmp_path)).save_pretrained(tmp_path / "ours")
    own = AutoTokenizer.from_pretrained(tmp_path)
    own.backend_tokenizer.model = AutoTokenizer.from_pretrained(
        tmp_path / "ours"
    ).backend_tokenizer.model
    own.save_pretrained(tmp_path / "saved")
    assert "legacy" not in json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())
    tokenizer = load_tokenizer(str(tmp_path / "saved"))
    slow = SlowLlama(tmp_path / "tokenizer.model", legacy=legacy)
    for one in ("  a b</s>USER: x", "</s> a", "▁x", "a</s></s>  b", ""):
        assert tokenizer(one)["input_ids"] == slow(one), one


def test_settings_of_the_tokenizer_are_kept(tmp_path: Path) -> None:
    write_trained(tmp_path / "tokenizer.model")
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    settings |= {"pad_token": "<unk>", "image_token": "<image>", "model_max_length": 4096}
    settings |= {"bos_token": {"__type": "AddedToken", "content": "<s>", "normalized": True}}
    settings |= {"padding_side": "right", "chat_template": "{{ messages }}"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    found, own = load_tokenizer(str(tmp_path)), AutoTokenizer.from_pretrained(tmp_path)
    assert found.get_vocab() == own.get_vocab() and found.image_token_id == own.image_token_id
    assert found.special_tokens_map == own.special_tokens_map
    assert found.all_special_ids == own.all_special_ids
    for name in ("model_max_length", "padding_side", "chat_template"):
        assert getattr(found, name) == getattr(own, name)


def test_sentencepiece_file_of_another_kind_is_left_to_transformers(tmp_path: Path) -> None:
    """Without a dummy prefix, as Gemma's, it is not read as Llama's."""
    write_trained(tmp_path / "tokenizer.model")
    model = proto_of((tmp_path / "tokenizer.model").read_bytes())
    model.normalizer_spec.add_dummy_prefix = False
    (tmp_path / "tokenizer.model").write_bytes(model.SerializeToString())
    found, own = load_tokenizer(str(tmp_path)), AutoTokenizer.from_pretrained(tmp_path)
    assert type(found) is type(own)
    assert found("the  dog</s>a")["input_ids"] == own("the  dog</s>a")["input_ids"]
