from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from presel_lightning.quickstart import CHECKPOINT
from presel_lightning.quickstart.tokenizer import build_tokenizer

TOKENIZER = AutoTokenizer.from_pretrained(CHECKPOINT)


def _round_trip(text: str) -> str:
    return str(TOKENIZER.decode(TOKENIZER(text, add_special_tokens=False)["input_ids"]))


@pytest.mark.parametrize(
    "text", ["jay", " a  b ", "Ünïcode ☂", "it 's , n't .", "tab\t\n\r", "日本"]
)
def test_tokenizer_round_trip_keeps_the_text(text: str) -> None:
    assert _round_trip(text) == text


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_tokenizer_round_trip_keeps_random_text(text: str) -> None:
    assert _round_trip(text) == text


def test_tokenizer_special_token_ids_match_llava() -> None:
    assert TOKENIZER.convert_tokens_to_ids(["<unk>", "<s>", "</s>", "<image>"]) == [0, 1, 2, 3]
    assert (TOKENIZER.pad_token_id, TOKENIZER.bos_token_id, TOKENIZER.eos_token_id) == (0, 1, 2)
    assert TOKENIZER.padding_side == "right"
    assert TOKENIZER(" blue</s>", add_special_tokens=False)["input_ids"][-1] == 2
    assert TOKENIZER("<image>", add_special_tokens=False)["input_ids"] == [3]
    assert TOKENIZER("", add_special_tokens=False)["input_ids"] == []
    assert len(TOKENIZER) <= 800


def test_tokenizer_splits_digits() -> None:
    assert len(TOKENIZER("4711", add_special_tokens=False)["input_ids"]) == 4


def test_build_tokenizer_twice_is_equal() -> None:
    texts = ["a red circle at top left", "USER: how many? ASSISTANT: two"] * 3
    one, two = build_tokenizer(texts), build_tokenizer(texts)
    assert one.get_vocab() == two.get_vocab()
    assert one.backend_tokenizer.to_str() == two.backend_tokenizer.to_str()
