"""What rules ask of captions, over whole columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from presel_lightning.filters.arrow import as_numpy, int64_scalar
from presel_lightning.filters.rule import UNKNOWN, verdicts_of

BLANK = r" \n\r\t\v\f\x00"
"""What divides words for fastText; a newline is a word of its own."""


def has_words(texts: pa.Array, more_than: int) -> pa.Array:
    """Whether `len(text.split())` is larger, blanks as Unicode has them."""
    trimmed = pc.utf8_trim_whitespace(texts)
    parts = pc.utf8_split_whitespace(trimmed, max_splits=more_than)
    enough = pc.greater(pc.list_value_length(parts), int64_scalar(more_than))
    return pc.and_(enough, pc.greater(pc.binary_length(trimmed), int64_scalar(0)))


def has_letters(texts: pa.Array, more_than: int) -> pa.Array:
    """Whether a text has more characters."""
    return pc.greater(pc.utf8_length(texts), int64_scalar(more_than))


def has_fasttext_words(texts: pa.Array, more_than: int) -> pa.Array:
    """Whether fastText's tokenizer finds more words: runs of non-blanks, and newlines."""
    words = pc.count_substring_regex(texts, f"[^{BLANK}]+")
    return pc.greater(pc.add(words, pc.count_substring(texts, "\n")), int64_scalar(more_than))


def per_text(texts: pa.Array, test: Callable[[str], bool]) -> np.ndarray:
    """Verdicts of a test of single texts; a text that is null is unknown."""
    valid = as_numpy(texts.is_valid())
    known: Iterable[str] = texts.drop_null().to_pylist()
    found = np.full(len(texts), UNKNOWN, np.int8)
    found[valid] = verdicts_of(np.fromiter(map(test, known), bool, int(valid.sum())))
    return found
