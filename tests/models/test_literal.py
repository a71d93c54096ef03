"""Control tokens among the words of a text are letters, for every kind of tokenizer."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from presel_lightning.data.conversation import without_image_token
from presel_lightning.loading.encoders import encoder_of
from presel_lightning.models import Processor, processor_of
from presel_lightning.models.literal import ESCAPE, control_marks, escape, reading
from presel_lightning.records import Turn
from tests.models import tiny
from tests.models.tiny_chat import write_chat_model

MARKS = ["<s>", "</s>", "<unk>", "<image>", "<video>", "<|im_end|>", "<|im_start|>", "<|end|>"]
MARKS += ["<|image_pad|>", "<|video_pad|>", "<|vision|>", "<|vend|>"]
texts = st.lists(
    st.one_of(st.sampled_from([*MARKS, "<", "</", "s>", " ", "\n"]), st.text(max_size=6)),
    max_size=6,
)
said = texts.map("".join).filter(lambda text: bool(text.strip()))
turns = st.lists(st.builds(Turn, said.map(without_image_token), said), min_size=1, max_size=3)


@cache
def encoder(kind: str) -> Any:
    if kind == "quickstart":
        return encoder_of("auto", processor_of("quickstart"), 1 << 20)
    place = Path(mkdtemp())
    if kind == "llama":
        return encoder_of("auto", processor_of(tiny.write_parts(place)), 1 << 20)
    return encoder_of("auto", processor_of(write_chat_model(kind, place / "model")), 1 << 20)


def check(kind: str, chat: list[Turn]) -> None:
    own = encoder(kind)
    llava = isinstance(own.processor, Processor)
    encoded = own(chat, image=False) if llava else own(chat)
    tokenizer = own.processor.tokenizer
    (end,) = own.stop_ids()
    assert encoded.labels.count(end) == len(chat)
    bos = tokenizer.bos_token_id
    assert bos is None or bos == end or encoded.input_ids.count(bos) == 1
    image = "<image>" if llava else own.processor.own.image_token
    assert tokenizer.convert_tokens_to_ids(image) not in encoded.input_ids


@settings(max_examples=300)
@given(st.sampled_from(["quickstart", "llama"]), turns)
def test_llava_answers_have_one_end_each(kind: str, chat: list[Turn]) -> None:
    check(kind, chat)


@settings(max_examples=200)
@given(st.sampled_from(["qwen2_5_vl", "llava_onevision"]), turns)
def test_chat_answers_have_one_end_each(kind: str, chat: list[Turn]) -> None:
    check(kind, chat)


def test_escaped_text_is_encoded_as_its_letters() -> None:
    tokenizer = encoder("quickstart").processor.tokenizer
    text = "now <s>12 EUR</s>, <</s>"
    marked = escape(text, control_marks(tokenizer))
    assert marked.count(ESCAPE) == 3 and marked.replace(ESCAPE, "") == text
    ids = reading(tokenizer)(marked, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert not set(ids) & set(tokenizer.all_special_ids)
    assert tokenizer("</s>", add_special_tokens=False)["input_ids"] == [tokenizer.eos_token_id]


def test_text_without_a_control_token_is_left_alone() -> None:
    marks = control_marks(encoder("quickstart").processor.tokenizer)
    assert escape("a < b </ s>", marks) == "a < b </ s>"
