"""Members of a tar that is mapped into memory: their places, without a copy of their content."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

BLOCK = 512
ZEROS = bytes(BLOCK)
OLD = 0
REGULAR = (ord("0"), OLD, ord("7"))
"""Types of plain files: as they are written today, by old programs, and contiguous ones."""
LONG_NAME, EXTENDED = ord("L"), ord("x")
CHECKSUM = slice(148, 156)
HEADERS = 4096
"""Headers that are checked together."""
ESCAPE = "surrogateescape"
NO_HEADER = "no header of a member at byte {}"
RECORD = re.compile(rb"(\d+) ([^=]+)=")


class BrokenTar(ValueError):
    """A tar that ends too early, or holds something else where a header should be."""


class Member(NamedTuple):
    """A plain file in a tar."""

    name: str
    offset: int
    size: int


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """Map a file into memory.

    Raises:
        BrokenTar: it is empty.
        OSError: it cannot be read.
    """
    with path.open("rb") as handle:
        try:
            content = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:
            raise BrokenTar("it is empty") from error
    with content:
        yield content


def members(tar: mmap.mmap | bytes) -> tuple[list[Member], BrokenTar | None]:
    """Plain files of a tar (POSIX, GNU, pax, or older) in their order, and where it breaks off.

    The checksums of all headers are checked together, behind the walk through them.
    """
    found: list[Member] = []
    headers: list[int] = []
    behind: list[int] = []  # members in front of each header
    fault: BrokenTar | None = None
    try:
        for start, member in _walk(tar):
            headers.append(start)
            behind.append(len(found))
            if member is not None:
                found.append(member)
    except BrokenTar as error:
        fault = error
    wrong = _first_wrong(tar, headers)
    if wrong is not None:
        return found[: behind[wrong]], BrokenTar(NO_HEADER.format(headers[wrong]))
    return found, fault


def _walk(tar: mmap.mmap | bytes) -> Iterator[tuple[int, Member | None]]:
    """Place of each header, with its member if that is a plain file."""
    start, name, size = 0, "", -1  # the latter two where a header before says so
    while start < len(tar):
        if tar[start] == 0 and tar[start : start + BLOCK] == ZEROS:
            return
        body = start + BLOCK
        if body > len(tar):
            raise BrokenTar(f"it ends within a header at byte {start}")
        kind = tar[start + 156]
        number = _size(tar, start)
        if size >= 0 and kind not in (LONG_NAME, EXTENDED):
            number = size
        end = body + number
        if end > len(tar):
            raise BrokenTar(f"it ends within the member at byte {start}")
        yield start, _file(kind, name or _name(tar, start), body, number)
        if kind == LONG_NAME:
            name = _text(tar[body:end])
        elif kind == EXTENDED:
            found = dict(_records(tar[body:end]))
            name = found.get(b"path", name.encode(errors=ESCAPE)).decode(errors=ESCAPE)
            size = int(found.get(b"size", size))
        else:
            name, size = "", -1
        start = body + -(-number // BLOCK) * BLOCK
    raise BrokenTar("it ends without the blocks of zeros that close a tar")


def _file(kind: int, name: str, offset: int, size: int) -> Member | None:
    """The member, if it is a plain file; old programs wrote a folder as one whose name ends in `/`."""
    is_folder = kind == OLD and name.endswith("/")
    return Member(name, offset, size) if kind in REGULAR and not is_folder else None


def _first_wrong(tar: mmap.mmap | bytes, headers: list[int]) -> int | None:
    """The first header whose checksum is not that of its bytes, the checksum's own being blanks."""
    content = np.frombuffer(tar, np.uint8) if len(tar) else np.empty(0, np.uint8)
    for first in range(0, len(headers), HEADERS):
        some = np.array(headers[first : first + HEADERS])
        blocks = content[some[:, None] + np.arange(BLOCK)]
        fields = blocks[:, CHECKSUM].copy()
        blocks[:, CHECKSUM] = ord(" ")
        sums = blocks.sum(1, dtype=np.int64).tolist()
        for place, (field, total) in enumerate(zip(fields, sums, strict=True)):
            if _number(field.tobytes()) != total:
                return first + place
    return None


def _size(tar: mmap.mmap | bytes, start: int) -> int:
    """Size in a header; one of nonsense is found by its checksum, or here."""
    size = _number(tar[start + 124 : start + 136])
    if size < 0:
        raise BrokenTar(NO_HEADER.format(start))
    return size


def _number(field: bytes) -> int:
    """An octal number, or a binary one where it is too large for that; -1 for anything else."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    try:
        return int(field.rstrip(b" \0") or b"0", 8)
    except ValueError:
        return -1


def _name(tar: mmap.mmap | bytes, start: int) -> str:
    name = _text(tar[start : start + 100])
    if tar[start + 345] and tar[start + 257 : start + 263] == b"ustar\0":
        return f"{_text(tar[start + 345 : start + 500])}/{name}"
    return name


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode(errors=ESCAPE)


def _records(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a pax header: `LENGTH key=value`, a line each."""
    start = 0
    while found := RECORD.match(content, start):
        end = start + int(found[1])
        yield found[2], content[found.end() : end - 1]
        if end <= start:
            return
        start = end
