"""Arrays of uids: 128 bits as two unsigned integers, as DataComp's subset files hold them."""

from __future__ import annotations

from binascii import unhexlify
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from presel_lightning.filters.arrow import as_numpy

UID = np.dtype("<u8,<u8")
"""`f0` is the first 16 hex digits of a uid, `f1` the other 16."""
DIGITS = 32

_IS_DIGIT = np.zeros(256, bool)
_IS_DIGIT[np.frombuffer(b"0123456789abcdefABCDEF", np.uint8)] = True


def parse_uids(
    texts: pa.Array | pa.ChunkedArray, index: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Uids from their hex digits.

    Args:
        texts: of all rows.
        index: (N,) which of them; None for all.

    Returns:
        (uids, valid): (N,) of dtype `UID` and (N,) bool; a uid that is null or not 32 hex digits
        is not valid, and 0.
    """
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    if not pa.types.is_string(texts.type):
        texts = texts.cast(pa.string())
    valid = np.diff(_offsets(texts)) == DIGITS
    if texts.null_count:
        valid &= as_numpy(texts.is_valid())
    if not valid.all():
        texts = pc.if_else(pa.array(valid), texts, "0" * DIGITS)
    letters = _letters(texts)
    if index is not None:
        letters, valid = letters.take(index, 0), valid[index]
    try:
        octets = np.frombuffer(unhexlify(letters.data), np.uint8)
    except ValueError:  # some letter is no digit
        right = _IS_DIGIT[letters].all(1)
        valid = valid & right
        mended = np.where(right[:, None], letters, np.uint8(ord("0")))
        octets = np.frombuffer(unhexlify(mended.data), np.uint8)
    halves = octets.view(">u8").astype("<u8")
    return halves.view(UID), valid


def _offsets(texts: pa.StringArray) -> np.ndarray:
    """Where each text begins in the bytes of all, and where the last ends: (N + 1,) int32."""
    if not len(texts):
        return np.zeros(1, np.int32)
    return np.frombuffer(texts.buffers()[1], np.int32)[texts.offset :][: len(texts) + 1]


def _letters(texts: pa.Array) -> np.ndarray:
    """Bytes of texts that all have 32 of them, and so lie one behind the other: (N, 32)."""
    if not len(texts):
        return np.empty((0, DIGITS), np.uint8)
    first, last = _offsets(texts)[[0, -1]]
    return np.frombuffer(texts.buffers()[2], np.uint8)[first:last].reshape(-1, DIGITS)


def uid_of_hex(text: str) -> tuple[int, int] | None:
    """The two halves of one uid; None where it is not 32 hex digits."""
    if len(text) != DIGITS:
        return None
    try:
        return int(text[:16], 16), int(text[16:], 16)
    except ValueError:
        return None


def as_hex(uids: np.ndarray) -> list[str]:
    """The hex digits of uids."""
    return [f"{first:016x}{second:016x}" for first, second in uids.tolist()]


def order_of(uids: np.ndarray) -> np.ndarray:
    """Row numbers that sort uids, first half first; equal uids in any order."""
    first = np.ascontiguousarray(uids["f0"])
    order = np.argsort(first)
    first = first[order]
    same = np.flatnonzero(first[1:] == first[:-1])
    second = uids["f1"]
    if (second[order[same + 1]] < second[order[same]]).any():
        order = np.lexsort((second, uids["f0"]))
    return order


def are_sorted(uids: np.ndarray) -> bool:
    """Whether no uid is smaller than the one before it."""
    first, second = uids["f0"], uids["f1"]
    less = first[1:] < first[:-1]
    return not (less | ((first[1:] == first[:-1]) & (second[1:] < second[:-1]))).any()


def counted(uids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct ones of sorted uids, and how often each is there."""
    new = np.ones(len(uids), bool)
    new[1:] = (uids["f0"][1:] != uids["f0"][:-1]) | (uids["f1"][1:] != uids["f1"][:-1])
    starts = np.flatnonzero(new)
    return uids[starts], np.diff(np.append(starts, len(uids)))


def positions(
    table: np.ndarray, uids: np.ndarray, side: Literal["left", "right"] = "left"
) -> np.ndarray:
    """Where uids would be inserted in a sorted table that may be mapped from a file.

    A bisection of all uids at once: what is read of the table is what it looks at, where
    `np.searchsorted` would copy a field of all of it.
    """
    first, second = np.ascontiguousarray(uids["f0"]), np.ascontiguousarray(uids["f1"])
    low = np.zeros(len(uids), np.int64)
    high = np.full(len(uids), len(table), np.int64)
    for _ in range(len(table).bit_length()):
        middle = (low + high) // 2
        found = table[np.minimum(middle, len(table) - 1)]
        tie = found["f1"] < second if side == "left" else found["f1"] <= second
        before = (found["f0"] < first) | ((found["f0"] == first) & tie)
        before &= low < high
        low = np.where(before, middle + 1, low)
        high = np.where(before, high, middle)
    return low


def multiplicity(table: np.ndarray, uids: np.ndarray) -> np.ndarray:
    """How often each uid is in a sorted table: (N,) int64."""
    found: np.ndarray = positions(table, uids, "right") - positions(table, uids)
    return found


def scrambled(uids: np.ndarray, seed: int = 0) -> np.ndarray:
    """A hash of each uid, (N,) uint64: breaks ties in an order that says nothing of the sample.

    Two rounds of the finalizer of SplitMix64, one for each half.
    """
    with np.errstate(over="ignore"):
        mixed = _splitmix(uids["f0"] + np.uint64(seed) * np.uint64(0xD1342543DE82EF95))
        return _splitmix(mixed ^ uids["f1"])


def _splitmix(value: np.ndarray) -> np.ndarray:
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = value ^ (value >> np.uint64(31))
    return mixed
