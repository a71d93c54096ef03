from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from presel_lightning.errors import UserError
from presel_lightning.functional.token_loss import IGNORE
from presel_lightning.loading.templates import TEMPLATES, Rendered
from presel_lightning.loading.tokens import encode, swallows_space
from presel_lightning.models.tokenizer import load_tokenizer
from presel_lightning.records import Turn
from tests.models.llama_file import SlowLlama, published_labels

model_pb2: Any = sentencepiece_model_pb2  # its classes are made when it is imported

N_IMAGE = 3
MERGES = (
    "▁U ▁A ▁a ER US ▁US USER SS IS IST AN ANT ASS ▁ASS do dog re red ▁re ▁do ▁dog ye yes ▁yes ▁▁"
)
"""Pieces in the order of their merges; `▁USER` is none, so that it falls apart as in Llama."""
WORDS = ["dog", "red", "yes", "a", "USER", "no?", "12", "7", "B.", "\n", "ASSISTANT", "été", ":"]


def sentencepiece_file(folder: Path) -> Path:
    """A tokenizer.model with Llama's settings: BPE, dummy prefix, spaces kept, bytes."""
    model = model_pb2.ModelProto()
    model.trainer_spec.model_type = model_pb2.TrainerSpec.BPE
    model.trainer_spec.byte_fallback = True
    model.trainer_spec.unk_id, model.trainer_spec.bos_id = 0, 1
    model.trainer_spec.eos_id, model.trainer_spec.pad_id = 2, -1
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = True
    model.normalizer_spec.remove_extra_whitespaces = False
    kinds = model_pb2.ModelProto.SentencePiece

    def add(piece: str, score: float, kind: Any) -> None:
        model.pieces.append(kinds(piece=piece, score=score, type=kind))

    add("<unk>", 0, kinds.UNKNOWN)
    add("<s>", 0, kinds.CONTROL)
    add("</s>", 0, kinds.CONTROL)
    for byte in range(256):
        add(f"<0x{byte:02X}>", 0, kinds.BYTE)
    for rank, piece in enumerate(MERGES.split()):
        add(piece, -rank, kinds.NORMAL)
    letters = sorted({letter for letter in "▁ABERSTUINadegorsy:?.127no"})
    for rank, letter in enumerate(letters, start=len(MERGES.split())):
        add(letter, -rank, kinds.NORMAL)
    path = folder / "tokenizer.model"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="module", params=[False, True], ids=["first", "legacy"])
def slow(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SlowLlama:
    folder = tmp_path_factory.mktemp("llama")
    settings = {"tokenizer_class": "LlamaTokenizer", "legacy": request.param}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return SlowLlama(sentencepiece_file(folder), legacy=request.param)


@pytest.fixture(scope="module")
def llama(slow: SlowLlama) -> Any:
    tokenizer = load_tokenizer(str(slow.path.parent))
    tokenizer.add_tokens([AddedToken("<image>", special=True, normalized=False)])
    return tokenizer


@pytest.fixture(scope="module")
def byte_level() -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["</s>", "<image>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["USER: a dog ASSISTANT: red dog yes"] * 9, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")


def conversation(rng: np.random.Generator) -> list[Turn]:
    def text() -> str:
        return " ".join(rng.choice(WORDS, size=rng.integers(1, 6))).replace("ASSISTANT :", "dog")

    return [Turn(text(), text()) for _ in range(rng.integers(1, 4))]


def test_vocabulary_splits_user_like_llama(llama: Any, slow: SlowLlama) -> None:
    assert slow.pieces.encode("USER", out_type=str) == ["▁US", "ER"]
    behind = ["▁US", "ER"] if slow.legacy else ["USER"]
    assert llama.convert_ids_to_tokens(slow.part("USER", first=False)) == behind


@pytest.mark.parametrize("with_question", [True, False])
@pytest.mark.parametrize("template", ["vicuna_v1", "vicuna_bare"])
def test_encode_tokens_and_labels_match_the_published_code(
    llama: Any, slow: SlowLlama, template: str, with_question: bool
) -> None:
    rng = np.random.default_rng(0)
    for _ in range(150):
        turns = conversation(rng)
        rendered = TEMPLATES[template].render(turns, with_question=with_question)
        ids = slow.with_image(rendered.text)
        encoded = encode(rendered, llama, n_image_tokens=1)
        assert encoded.input_ids == ids, rendered.text
        assert encoded.labels == published_labels(rendered.text, ids, slow), rendered.text


def test_encode_space_before_digit_is_labelled_as_published(llama: Any) -> None:
    rendered = TEMPLATES["vicuna_bare"].render([Turn("a?", "7")], with_question=True)
    encoded = encode(rendered, llama, N_IMAGE)
    labelled = [token for token in encoded.labels if token != IGNORE]
    assert llama.convert_ids_to_tokens(labelled) == ["▁", "7", "</s>"]


@pytest.mark.parametrize("with_question", [True, False])
def test_encode_byte_level_decodes_to_the_rendered_text(
    byte_level: Any, with_question: bool
) -> None:
    turns = [Turn("a dog?", "red été 7"), Turn("USER", "yes")]
    rendered = TEMPLATES["vicuna_v1"].render(turns, with_question=with_question)
    encoded = encode(rendered, byte_level, N_IMAGE)
    assert byte_level.decode(encoded.input_ids) == rendered.text.replace("<image>", "<image>" * 3)
    labelled = byte_level.decode([token for token in encoded.labels if token != IGNORE])
    parts = [rendered.text[start:end] for start, end in rendered.answer_spans]
    # the space before a word is part of the word's token here
    assert labelled == "".join(" " + part for part in parts)


@pytest.fixture(scope="module")
def llama_3() -> Any:
    marks = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        special_tokens=[*marks, "<image>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    inner.train_from_iterator(["\n\n\n\n the red dog yes"] * 3, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=marks[0], eos_token=marks[3], pad_token=marks[3]
    )


@pytest.mark.parametrize("with_question", [True, False])
def test_encode_llama_3_labels_answers_and_end_of_turn(llama_3: Any, with_question: bool) -> None:
    turns = [Turn("a dog?", "red été 7"), Turn("USER", "yes")]
    rendered = TEMPLATES["llama_3"].render(turns, with_question=with_question)
    encoded = encode(rendered, llama_3, N_IMAGE)
    text = rendered.text.replace("<image>", "<image>" * N_IMAGE)
    assert llama_3.decode(encoded.input_ids) == "<|begin_of_text|>" + text
    labelled = llama_3.decode([token for token in encoded.labels if token != IGNORE])
    said = ["red été 7", "yes"] if with_question else ["red été 7 yes"]
    assert labelled == "".join(f"{answer}<|eot_id|>" for answer in said)


def test_swallows_space_is_true_only_for_sentencepiece(
    slow: SlowLlama, llama: Any, byte_level: Any
) -> None:
    plain = AutoTokenizer.from_pretrained(slow.path.parent)
    plain.add_tokens([AddedToken("<image>", special=True, normalized=False)])
    assert swallows_space(plain)
    assert not swallows_space(llama) and not swallows_space(byte_level)
    for text in (" ASSISTANT: a dog", "▁a", "USER: a  dog"):
        assert encode(text, plain, 1).input_ids == slow(text)


def test_encode_expands_image_tokens_and_adds_one_bos(llama: Any, byte_level: Any) -> None:
    for tokenizer in (llama, byte_level):
        ids = encode("USER: <image>\na? ASSISTANT:", tokenizer, N_IMAGE).input_ids
        image = tokenizer.convert_tokens_to_ids("<image>")
        first = ids.index(image)
        assert ids[first : first + N_IMAGE] == [image] * N_IMAGE and ids.count(image) == N_IMAGE
    assert encode("a", llama, N_IMAGE).input_ids.count(llama.bos_token_id) == 1


def test_encode_prompt_has_no_labels(llama: Any) -> None:
    assert encode("USER: <image> ASSISTANT:", llama, N_IMAGE).n_labels == 0


def test_encode_truncation_removes_the_end(llama: Any) -> None:
    rendered = TEMPLATES["vicuna_bare"].render([Turn("a dog?", "red dog")], with_question=True)
    whole = encode(rendered, llama, N_IMAGE)
    assert whole.n_labels > 2
    for length in range(len(whole.input_ids) - whole.n_labels, len(whole.input_ids) + 2):
        cut = encode(rendered, llama, N_IMAGE, length)
        assert cut.input_ids == whole.input_ids[:length]
        assert cut.labels == whole.labels[:length]
    assert encode(rendered, llama, N_IMAGE, len(whole.input_ids) - whole.n_labels).n_labels == 0


def test_encode_truncation_inside_the_image_raises_user_error(llama: Any) -> None:
    with pytest.raises(UserError, match="max_length 4"):
        encode(Rendered("USER: <image>", ()), llama, N_IMAGE, 4)


def test_encode_tokenizer_without_image_token_raises_user_error(byte_level: Any) -> None:
    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
    with pytest.raises(UserError, match="<image>"):
        encode("<image>", bare, N_IMAGE)


@pytest.mark.parametrize("answer", ["red ASSISTANT: yes", "red</s>dog", "USER: a ASSISTANT: dog"])
def test_encode_answer_holding_a_mark_of_the_template_is_labelled_whole(
    llama: Any, slow: SlowLlama, answer: str
) -> None:
    """The published code loses count of such a conversation and masks all of it."""
    rendered = TEMPLATES["vicuna_v1"].render([Turn("no?", answer)], with_question=True)
    encoded = encode(rendered, llama, n_image_tokens=1)
    assert encoded.input_ids == slow.with_image(rendered.text)
    labelled = [token for token in encoded.labels if token != IGNORE]
    assert labelled == encoded.input_ids[-len(labelled) :]
    # the decoder writes the dummy prefix of what follows `</s>` as a space
    assert llama.decode(labelled).replace(" ", "") == f"{answer}</s>".replace(" ", "")
