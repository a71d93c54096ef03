"""What people write, kept apart from a tokenizer's control tokens.

A control token is found in a text by its letters, so an answer that speaks of `</s>` would end there. Inside
what people wrote, a private character is put into the letters of every control token (`escape`). A copy of the
tokenizer drops that character where it normalizes text (`reading`), which is after control tokens were looked
for: the letters come out as the same model encodes any others, next to what stands beside them.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate
from typing import Any

from tokenizers import AddedToken, normalizers

from presel_lightning.records import Turn, pieces_of

ESCAPE = "\U0010a7e5"
"""Of the private use area: no tokenizer has it, and nobody writes it."""


def escape(text: str, marks: Sequence[str]) -> str:
    """Put the private character behind the first letter of each mark; other text stays as it is.

    Args:
        text: what a person wrote.
        marks: of `control_marks`.
    """
    if not any(mark in text for mark in marks):
        return text
    return _pattern(tuple(marks)).sub(lambda found: found.group() + ESCAPE, text)


def escape_turns(turns: Sequence[Turn], marks: Sequence[str]) -> tuple[Turn, ...]:
    """The same conversation with its texts escaped; each image stays where it stands."""
    return tuple(_escaped(turn, marks) for turn in turns)


def _escaped(turn: Turn, marks: Sequence[str]) -> Turn:
    asked = [escape(piece, marks) for piece in pieces_of(turn.question, turn.images_at)]
    return replace(
        turn,
        question="".join(asked),
        answer=escape(turn.answer, marks),
        system=escape(turn.system, marks),
        images_at=tuple(accumulate(map(len, asked[:-1]))),
    )


def control_marks(tokenizer: Any, more: Iterable[Any] = ()) -> tuple[str, ...]:  # noqa: ANN401
    """Letters of a tokenizer's control tokens, and of others that a processor looks for.

    Args:
        tokenizer: a fast tokenizer.
        more: a processor's own marks (`<video>`), where it has any.
    """
    named = {mark for mark in more if isinstance(mark, str)}
    # one letter has no inside
    return tuple(sorted(mark for mark in {*_special(tokenizer), *named} if len(mark) > 1))


def processor_marks(processor: Any) -> tuple[str, ...]:  # noqa: ANN401 - one class a model
    """Control tokens of a model's own processor: its tokenizer's, and its places of images and videos."""
    named = [value for name, value in vars(processor).items() if name.endswith("_token")]
    return control_marks(processor.tokenizer, named)


def reading(tokenizer: Any) -> Any:  # noqa: ANN401 - transformers has one class a model
    """A tokenizer that reads escaped text; it is never saved.

    Args:
        tokenizer: a fast tokenizer, which stays as it is.
    """
    return _reading(tokenizer, len(tokenizer))


@lru_cache(maxsize=8)
def _reading(tokenizer: Any, _: int) -> Any:  # noqa: ANN401
    made = copy.deepcopy(tokenizer)
    backend = made.backend_tokenizer
    dropped = normalizers.Replace(ESCAPE, "")
    own = backend.normalizer
    backend.normalizer = dropped if own is None else normalizers.Sequence([dropped, own])
    # looked for before the text is normalized, never after
    backend.add_special_tokens(
        [_unnormalized(token) for token in made.added_tokens_decoder.values() if token.special]
    )
    return made


@lru_cache(maxsize=64)
def _pattern(marks: tuple[str, ...]) -> re.Pattern[str]:
    """The first letter of each mark, also of one that begins inside another."""
    return re.compile("|".join(rf"{re.escape(mark[0])}(?={re.escape(mark[1:])})" for mark in marks))


def _special(tokenizer: Any) -> set[str]:  # noqa: ANN401
    return _special_of(tokenizer, len(tokenizer))


@lru_cache(maxsize=8)
def _special_of(tokenizer: Any, _: int) -> set[str]:  # noqa: ANN401
    decoder = tokenizer.added_tokens_decoder
    found = {token.content for token in decoder.values() if token.special}
    return found | set(tokenizer.all_special_tokens)


def _unnormalized(token: AddedToken) -> AddedToken:
    return AddedToken(
        token.content,
        single_word=token.single_word,
        lstrip=token.lstrip,
        rstrip=token.rstrip,
        normalized=False,
        special=True,
    )
