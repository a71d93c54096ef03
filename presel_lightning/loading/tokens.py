"""Rendered conversations to token ids, and which of them carry the loss."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from presel_lightning.data.conversation import IMAGE
from presel_lightning.errors import UserError
from presel_lightning.functional.token_loss import IGNORE
from presel_lightning.loading.templates import Rendered
from presel_lightning.models.literal import ESCAPE, reading
from presel_lightning.models.tokenizer import SPACE

UNCUT = 1 << 30
"""A maximum length that truncates nothing."""
Piece = tuple[int, int, int]
"""A token id and the characters (start, end) that it stands for; (0, 0) if for none."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of a sample.

    Attributes:
        input_ids: (L,) with the image token repeated once a place of the image.
        labels: (L,) the same ids where an answer stands, -100 elsewhere.
    """

    input_ids: list[int]
    labels: list[int]

    @property
    def n_labels(self) -> int:
        """Tokens that carry the loss; 0 where truncation left no answer."""
        return sum(label != IGNORE for label in self.labels)


def encode(
    rendered: Rendered | str,
    tokenizer: Any,  # noqa: ANN401 - transformers has one class a model
    n_image_tokens: int,
    max_length: int | None = None,
) -> Encoded:
    """Tokenise a conversation, or a plain prompt without labels, as LLaVA does.

    The text is split at `<image>` and each piece tokenised alone; BOS stands once in front.

    Args:
        rendered: a conversation, or a prompt to be continued.
        tokenizer: a fast tokenizer that knows `<image>`.
        n_image_tokens: places that an image takes.
        max_length: tokens kept, from the front; None keeps all.

    Raises:
        UserError: the tokenizer has no `<image>`, or `max_length` would cut the image.
    """
    if isinstance(rendered, str):
        rendered = Rendered(rendered, ())
    pieces = _pieces(rendered.text, tokenizer, n_image_tokens)
    ids = [token for token, _, _ in pieces][:max_length]
    labels = [token if _labelled(start, end, rendered) else IGNORE for token, start, end in pieces]
    image = image_token_id(tokenizer)
    if ids.count(image) < n_image_tokens * rendered.text.count(IMAGE):
        raise UserError(
            f"data.max_length {max_length} is too short for the {n_image_tokens} tokens of an "
            "image and the text before it; raise it"
        )
    return Encoded(ids, labels[:max_length])


def _labelled(start: int, end: int, rendered: Rendered) -> bool:
    """Whether a token carries the loss.

    It does if it overlaps an answer or the stop mark behind it. So does a token for nothing but
    the space before the answer, which Llama writes before digits and rare characters: the
    published masks count it in (they end one token before the end of `ASSISTANT: `).
    """
    return any(
        (start < last and first < end)
        or ((start, end) == (first - 1, first) and rendered.text[start] == " ")
        for first, last in rendered.answer_spans
    )


def _pieces(text: str, tokenizer: Any, n_image_tokens: int) -> list[Piece]:  # noqa: ANN401
    bos = tokenizer.bos_token_id
    pieces: list[Piece] = [] if bos is None else [(bos, 0, 0)]
    place = 0
    for number, chunk in enumerate(text.split(IMAGE)):
        if number:
            pieces += [(image_token_id(tokenizer), 0, 0)] * n_image_tokens
            place += len(IMAGE)
        pieces += [(token, place + a, place + b) for token, a, b in _tokenise(chunk, tokenizer)]
        place += len(chunk)
    return pieces


def _tokenise(chunk: str, tokenizer: Any) -> list[Piece]:  # noqa: ANN401
    """Tokenise one piece of text alone, with its characters; escaped ones as the letters they are.

    Sentencepiece puts a space before every text, also before one that begins with a space. Where
    a tokenizer leaves it out there (not one of `load_tokenizer`), it is written out.
    """
    added = SPACE if chunk.startswith((" ", SPACE)) and swallows_space(tokenizer) else ""
    encoding = (reading(tokenizer) if ESCAPE in chunk else tokenizer)(
        added + chunk, add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )
    shift = len(added)
    return [
        (token, max(start - shift, 0), max(end - shift, 0))
        for token, (start, end) in zip(
            encoding["input_ids"], encoding["offset_mapping"], strict=True
        )
    ]


@lru_cache(maxsize=8)
def swallows_space(tokenizer: Any) -> bool:  # noqa: ANN401
    """Whether a tokenizer of sentencepiece's kind reads a text with and without a space alike.

    Told by what it does: `USER` and ` USER` come out equal, and so does `▁USER`, which is no
    space to a byte-level tokenizer.
    """
    plain, spaced, written = (
        tokenizer(text, add_special_tokens=False)["input_ids"]
        for text in ("USER", " USER", SPACE + "USER")
    )
    return bool(plain == spaced == written)


@lru_cache(maxsize=8)
def image_token_id(tokenizer: Any) -> int:  # noqa: ANN401
    """Id of the token that an image's places are written with.

    Raises:
        UserError: the tokenizer has none.
    """
    token = tokenizer.convert_tokens_to_ids(IMAGE)
    if token is None or token == tokenizer.unk_token_id:
        raise UserError(f"the tokenizer has no {IMAGE} token; add it as a special token")
    return int(token)
