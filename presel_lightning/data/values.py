"""What a value of a record says as text: one rule for every source."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any, Literal, get_args

from presel_lightning.data.conversation import InvalidRecordError
from presel_lightning.errors import UserError

AnswerLists = Literal["refuse", "first", "most_common"]
"""What becomes of an answer that is a list; see `picked`."""


class Digits(float):
    """A number of a JSON text that keeps the digits it was written with.

    Args:
        text: of the number.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        """As it was written."""
        return self.text

    def __reduce__(self) -> tuple[type[Digits], tuple[str]]:
        """Copied and sent with its text."""
        return Digits, (self.text,)


def text_of(value: object, name: str) -> str:
    """Text of a question or answer.

    Text stays as it is, null is empty, `true` and `false` are "yes" and "no", and a number keeps
    its digits: 0 is the answer "0" and 0.50 the answer "0.50".

    Args:
        value: of the field.
        name: of the field, for the message.

    Raises:
        InvalidRecordError: it is a list, an object, or something else that is no text.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float | Decimal):
        return str(value)
    kind = type(value).__name__
    if isinstance(value, list | tuple):
        raise InvalidRecordError(
            "list_value",
            f"`{name}` is a list of {len(value)}; data.answer_lists: first or most_common takes one "
            "of an answer's",
        )
    raise InvalidRecordError("bad_value", f"`{name}` is of type {kind}; give a text or a number")


def picked(value: object, lists: AnswerLists) -> object:
    """One of a list of answers, where the configuration asks for one; anything else as it is.

    `first` takes the first that is not empty, `most_common` the one that occurs most often (the
    earlier one of two that do), as the consensus of VQA's annotators.

    Args:
        value: of an answer.
        lists: `refuse` leaves a list to `text_of`, which refuses it.
    """
    if not isinstance(value, list | tuple) or lists == "refuse":
        return value
    texts = [text_of(_said(entry), "answer") for entry in value]
    texts = [text for text in texts if text.strip()]
    if not texts:
        return None
    return texts[0] if lists == "first" else Counter(texts).most_common(1)[0][0]


def _said(entry: Any) -> object:  # noqa: ANN401 - any JSON value
    """An answer of a list; VQA has each as an object with the annotator's number."""
    return entry.get("answer") if isinstance(entry, dict) else entry


def check_lists(lists: str) -> None:
    """Refuse another word than those known.

    Raises:
        UserError: it is one.
    """
    if lists not in (known := get_args(AnswerLists)):
        raise UserError(f"data.answer_lists {lists!r} is unknown; choose from {', '.join(known)}")
