"""A trained tokenizer.model of Llama's kind, and what LLaVA's tokenizer makes of a text with it."""

from __future__ import annotations

import io
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from presel_lightning.functional.token_loss import IGNORE

PIECES = 1200
SPACES = (2, 3, 4, 6, 8, 16)
"""Lengths of the pieces of nothing but spaces; Llama has such gaps too."""

PROSE = (
    "a the red dog cat is on of in USER ASSISTANT user assistant image image? photo what color how "
    "many objects are there Answer answer: yes no two three 12 2048 3.14 50% well-known don't I'm "
    "street sign reads OPEN the_name getValue() self.value = None; return x + 1 if else for while "
    "def __init__(self): print('hi') != == >= <= -> // ## -- --- ---- ... .... ***"
)
SCRIPTS = (
    "猫 犬 你好 世界 図書館 こんにちは 안녕 привет мир ß é e\u0301 ñ n\u0303 a\u030a o\u0332 🙂 🐶 👩\u200d🚀 🇫🇷 "
    "① ﬁ — “x” 10°C ½ ▁ ▁▁x x▁ ⁇ \ufeff \xa0 \u200b \u3000 \u202e ئ हिन्दी ไทย"
)
WORDS, OTHER = PROSE.split(" "), SCRIPTS.split(" ")
GAPS = ("", " ", " ", " ", "  ", "   ", "    ", "     ", "\t", "\t\t", "\n", "\n\n", "\n    ")
LONG = (" " * 7, " " * 9, " " * 17, " " * 40, "\n" + " " * 12, "-" * 5, "=" * 9, "." * 6, "\r\n")
SPECIAL = ("</s>", "<s>", "<unk>", "</s> ", " </s>", "</s></s>", "<0x0A>", "</s", "<pad>")


def text(rng: np.random.Generator) -> str:
    """A random text: prose, code, spaces of every kind, other scripts, special tokens."""
    parts = []
    for _ in range(rng.integers(0, 14)):
        kinds = [WORDS, WORDS, WORDS, OTHER, LONG, SPECIAL]
        parts.append(str(rng.choice(kinds[rng.integers(len(kinds))])))
        parts.append(str(rng.choice(GAPS)))
    return str(rng.choice(["", " ", "  ", "\n"])) + "".join(parts)


def conversation(rng: np.random.Generator) -> str:
    """A prompt as LLaVA writes it, with such texts in it, and `<image>` in some place."""
    asked, said = text(rng), text(rng)
    image = ("<image>\n", "<image> ", "", "<image>")[rng.integers(4)]
    return f"A chat. USER: {image}{asked} ASSISTANT: {said}</s>"


@cache
def trained() -> bytes:
    """A sentencepiece model with Llama's settings; pieces of several spaces as Llama has them.

    They are moved before all learned pieces, with a score by which they are joined last.
    """
    rng = np.random.default_rng(0)
    lines = [text(rng).replace("\n", " ") for _ in range(1500)]
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=made,
        model_type="bpe",
        vocab_size=PIECES,
        byte_fallback=True,
        character_coverage=0.99,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        num_threads=1,
        minloglevel=2,
    )
    model: Any = proto_of(made.getvalue())
    kind = type(model.pieces[0])
    spaces = [kind(piece="▁" * n, score=-1e9, type=kind.NORMAL) for n in SPACES]
    learned = [piece for piece in model.pieces if not re.fullmatch("▁▁+", piece.piece)]
    for piece in learned:
        if piece.piece == "▁USER":
            # as in Llama: `USER` is two pieces with a space in front, and one behind `</s>`
            piece.piece, piece.score = "▁US", -140.0
    del model.pieces[:]
    model.pieces.extend([*learned[:259], *spaces, *learned[259:]])
    content: bytes = model.SerializeToString()
    return content


def proto_of(content: bytes) -> Any:
    """A sentencepiece model by its fields."""
    return sentencepiece_model_pb2.ModelProto.FromString(content)  # type: ignore[attr-defined]


def write_trained(path: Path, legacy: bool | None = False) -> int:
    """Write it, and the settings of its tokenizer beside it (none: `None`); returns its size."""
    path.write_bytes(trained())
    if legacy is not None:
        settings = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "legacy": legacy}
        (path.parent / "tokenizer_config.json").write_text(json.dumps(settings))
    return len(proto_of(trained()).pieces)


class SlowLlama:
    """Llama's own sentencepiece, used as the tokenizer that LLaVA was published with used it.

    Special tokens cut the text. With `legacy` each part gets the dummy prefix; without, only the
    first, also where it begins with a space.
    """

    def __init__(self, path: Path, *, legacy: bool) -> None:
        self.path, self.legacy = path, legacy
        self.pieces = sentencepiece.SentencePieceProcessor(model_file=str(path))
        model = proto_of(path.read_bytes())
        model.normalizer_spec.add_dummy_prefix = False
        self.bare = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
        self.image = self.pieces.vocab_size()
        """Id of `<image>`, the first that is added."""

    def part(self, text: str, *, first: bool) -> list[int]:
        """Ids of a part without special tokens."""
        return list((self.pieces if first or self.legacy else self.bare).encode(text))

    def __call__(self, text: str) -> list[int]:
        """One chunk with BOS in front."""
        ids = [1]
        for number, part in enumerate(re.split("(<unk>|<s>|</s>)", text)):
            if part in ("<unk>", "<s>", "</s>"):
                ids.append(self.pieces.piece_to_id(part))
            elif part:
                ids += self.part(part, first=number == 0)
        return ids

    def with_image(self, text: str) -> list[int]:
        """Chunks around `<image>` one by one, one BOS, one place for the image."""
        first, *rest = (self(chunk) for chunk in text.split("<image>"))
        return first + [token for chunk in rest for token in (self.image, *chunk[1:])]


def published_labels(text: str, ids: list[int], slow: SlowLlama) -> list[int]:
    """Where the published masks put the loss, for one image place; `preprocess_v1` in steps.

    A round ends with `</s>`. What it asks is as long as its tokens up to `ASSISTANT: `, less two:
    the BOS, and the lone space at the end. From the second round on, `USER` alone is a token
    longer than behind `</s>`, which is taken off both lengths (not with `legacy`: it is as long).
    """
    labels = list(ids)
    labels[0] = IGNORE
    at = 1
    for number, round_ in enumerate(text.split("</s>")):
        if not round_:
            break
        asks, _, rest = round_.partition("ASSISTANT: ")
        assert rest and "ASSISTANT: " not in rest
        fewer = 1 if number and not slow.legacy else 0
        length = len(slow.with_image(round_)) - fewer
        masked = len(slow.with_image(asks + "ASSISTANT: ")) - 2 - fewer
        labels[at : at + masked] = [IGNORE] * masked
        at += length
    labels[at:] = [IGNORE] * (len(labels) - at)
    assert at == len(ids)
    return labels
