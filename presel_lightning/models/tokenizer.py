r"""A model's tokenizer; Llama's exactly as sentencepiece reads its file.

Sentencepiece joins, of all neighboring pieces, the pair whose union has the highest score, of
equal scores the leftmost. A byte-pair model takes the same pairs :math:`(l, r)` as a list, sorted by

.. math:: (-\mathrm{score}(lr),\ -|l|,\ -|r|)

Transformers 5 sorts them by the id of :math:`lr` instead. In Llama's file the pieces of several
spaces have low ids and the score -1e9: they are joined last, and by their ids they would be first.
Among equal scores a longer left part comes first: in a run of one character, that is the leftmost
pair.

Source: sentencepiece's BPE model; LLaVA's training script, which reads the file with transformers
4.37 and `use_fast=False`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from transformers import AutoTokenizer, LlamaTokenizer, PreTrainedTokenizerFast
from transformers.models.auto.tokenization_auto import get_tokenizer_config
from transformers.utils.hub import cached_file

from presel_lightning.run.files import read_json

SPACE = "▁"
"""How sentencepiece writes a space."""

Prefix = Literal["every", "first"]
"""Which parts of a text begin with a space of their own, where special tokens cut it into parts."""

SETTINGS = (
    "extra_special_tokens",
    "model_max_length",
    "padding_side",
    "chat_template",
    "clean_up_tokenization_spaces",
)


def load_tokenizer(name: str) -> Any:  # noqa: ANN401 - transformers has one class a model
    """Load a tokenizer; one of Llama's kind gives the ids that LLaVA was trained on.

    Where a `tokenizer.json` lies beside the `tokenizer.model`, its merges are taken.

    Args:
        name: folder or hub id of a model.
    """
    found = AutoTokenizer.from_pretrained(name)
    if type(found) not in (LlamaTokenizer, PreTrainedTokenizerFast):
        return found
    settings = get_tokenizer_config(name)
    converted, file = _file(name, "tokenizer.json"), _file(name, "tokenizer.model")
    if converted is not None:
        if not isinstance(found, LlamaTokenizer):
            return found  # read as it stands there
        prefix = _prefix(settings, read_json(converted))
        model = found.backend_tokenizer.model
        return found if prefix is None else _rebuilt(found, model, prefix, settings)
    proto = None if file is None else _read(file)
    if proto is None:
        return found
    vocabulary = {piece.piece: token for token, piece in enumerate(proto.pieces)}
    model = BPE(vocab=vocabulary, merges=merges(proto), fuse_unk=True, byte_fallback=True)
    return _rebuilt(found, model, _prefix(settings, {}) or "every", settings)


def merges(proto: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - made at run time
    """List the pairs of a sentencepiece BPE model that are joined, in their order.

    Args:
        proto: `ModelProto`; control, byte and unknown pieces take no part.

    Returns:
        The left and the right piece of each.
    """
    kinds = sentencepiece_model_pb2.ModelProto.SentencePiece  # type: ignore[attr-defined]
    scores = {piece.piece: piece.score for piece in proto.pieces if piece.type == kinds.NORMAL}

    def pairs() -> Iterator[tuple[float, int, int, str, str]]:
        for piece, score in scores.items():
            for cut in range(1, len(piece)):
                left, right = piece[:cut], piece[cut:]
                if left in scores and right in scores:
                    yield -score, -len(left), -len(right), left, right

    return [pair[-2:] for pair in sorted(pairs(), key=lambda pair: pair[:3])]


def _file(name: str, file: str) -> Path | None:
    found = cached_file(
        name,
        file,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if found is None else Path(found)


def _read(path: Path) -> Any:  # noqa: ANN401 - made at run time
    """A sentencepiece model of Llama's kind; None for any other file."""
    proto = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    try:
        proto.ParseFromString(path.read_bytes())
    except DecodeError:
        return None  # tiktoken's format has the same name
    trained, normal = proto.trainer_spec, proto.normalizer_spec
    alike = (
        trained.model_type == trained.BPE
        and trained.byte_fallback
        and normal.add_dummy_prefix
        and not normal.remove_extra_whitespaces
        and not normal.precompiled_charsmap
    )
    return proto if alike else None


def _prefix(settings: dict[str, Any], converted: dict[str, Any]) -> Prefix | None:
    """What gets a space in front; None where a `tokenizer.json` puts none there.

    `legacy` says so, and is true where nothing does, as in transformers 4. Version 5 does not write
    it down; its files show it.
    """
    text = str([converted.get("normalizer"), converted.get("pre_tokenizer")])
    if converted and "Prepend" not in text and "Metaspace" not in text:
        return None
    legacy = settings.get("legacy")
    if legacy is None:
        legacy = "'prepend_scheme': 'first'" not in text
    return "every" if legacy else "first"


def _rebuilt(found: Any, model: Any, prefix: Prefix, settings: dict[str, Any]) -> Any:  # noqa: ANN401
    """The same tokens around a byte-pair model, spaces treated as sentencepiece does.

    It is written to `tokenizer.json` as it is. Transformers' own class for Llama is not: reading
    that file, it leaves out the space in front of a text that begins with one.
    """
    model.unk_token = found.unk_token
    backend = Tokenizer(model)
    spaces = normalizers.Replace(" ", SPACE)
    if prefix == "every":
        backend.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), spaces])
    else:
        backend.normalizer = spaces
        # no space is left in the text, so that the first one always puts one in front
        first = pre_tokenizers.Metaspace(" ", "first", split=False)
        written = pre_tokenizers.Metaspace(SPACE, "never", split=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([first, written])
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace(SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", left=1),
        ]
    )
    for _, token in sorted(found.added_tokens_decoder.items()):
        backend.add_tokens([_unchanged(token)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        name_or_path=found.name_or_path,
        add_bos_token=settings.get("add_bos_token", True),
        add_eos_token=settings.get("add_eos_token", False),
        **found.special_tokens_map,
        **{name: getattr(found, name) for name in SETTINGS},
    )


def _unchanged(token: AddedToken) -> AddedToken:
    """A special token is looked for in the text as it stands."""
    return AddedToken(
        token.content,
        single_word=token.single_word,
        lstrip=token.lstrip,
        rstrip=token.rstrip,
        normalized=token.normalized and not token.special,
        special=token.special,
    )
