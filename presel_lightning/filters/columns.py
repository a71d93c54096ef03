"""Columns as rules read them: without dictionaries, texts as strings."""

from __future__ import annotations

import pyarrow as pa

TEXTS = (pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view())
"""Types of texts that become `string`; `string` and `large_string` are taken as they are."""


class WrongType(TypeError):
    """A column whose values a rule cannot read.

    Args:
        names: of the column.
        detail: its type, and the value that is wrong.
    """

    def __init__(self, names: tuple[str, ...], detail: object) -> None:
        super().__init__(f"{' or '.join(names)} is {detail}")


def plain(column: pa.Array, name: str, *, is_text: bool = False) -> pa.Array:
    """A column without dictionary, texts as strings.

    Args:
        column: (N,), of any type.
        name: what it is called.
        is_text: whether only texts will do.

    Raises:
        WrongType: it holds bytes that are no UTF-8, or no texts where only these will do.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if kind in TEXTS or (is_text and pa.types.is_null(kind)):
        try:
            return column.cast(pa.string())
        except pa.ArrowException as error:
            raise WrongType((name,), f"{kind} ({str(error)[:100]})") from error
    if is_text and not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise WrongType((name,), kind)
    return column
