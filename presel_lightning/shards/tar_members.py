"""Members of a tar that is mapped into memory: their places, without a copy of their content."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BLOCK = 512
ZEROS = bytes(BLOCK)
REGULAR = b"0\x007"
"""Types of plain files: as they are written today, by old programs, and contiguous ones."""
LONG_NAME, EXTENDED = b"L", b"x"
RECORD = re.compile(rb"(\d+) ([^=]+)=")


class BrokenTar(ValueError):
    """A tar that ends too early, or holds something else where a header should be."""


@dataclass(frozen=True, slots=True)
class Member:
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


def members(tar: mmap.mmap | bytes) -> Iterator[Member]:
    """Plain files of a tar (POSIX, GNU, pax, or older) in their order.

    Raises:
        BrokenTar: behind the last member that is whole.
    """
    start, name, size = 0, "", -1  # the latter two where a header before says so
    while start < len(tar):
        header = tar[start : start + BLOCK]
        if header == ZEROS:
            return
        number, kind = _checked(header, start), header[156:157]
        body = start + BLOCK
        if kind not in (LONG_NAME, EXTENDED):
            number = size if size >= 0 else number
        end = body + number
        if end > len(tar):
            raise BrokenTar(f"it ends within the member at byte {start}")
        if kind == LONG_NAME:
            name = _text(tar[body:end])
        elif kind == EXTENDED:
            found = dict(_records(tar[body:end]))
            name = found.get(b"path", name.encode()).decode(errors="surrogateescape")
            size = int(found.get(b"size", size))
        else:
            if kind in REGULAR:
                yield Member(name or _name(header), body, number)
            name, size = "", -1
        start = body + -(-number // BLOCK) * BLOCK
    raise BrokenTar("it ends without the blocks of zeros that close a tar")


def _checked(header: bytes, start: int) -> int:
    """Size in a header whose checksum is right."""
    if len(header) < BLOCK:
        raise BrokenTar(f"it ends within a header at byte {start}")
    try:
        right = _number(header[148:156]) == (sum(header) - sum(header[148:156]) + 8 * 32)
        size = _number(header[124:136])
    except ValueError:
        right, size = False, -1
    if not right or size < 0:
        raise BrokenTar(f"no header of a member at byte {start}")
    return size


def _number(field: bytes) -> int:
    """An octal number, or a binary one where it is too large for that."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    return int(field.rstrip(b" \0").lstrip() or b"0", 8)


def _name(header: bytes) -> str:
    name = _text(header[:100])
    if header[257:263] == b"ustar\0" and header[345]:
        return f"{_text(header[345:500])}/{name}"
    return name


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode(errors="surrogateescape")


def _records(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a pax header: `LENGTH key=value`, a line each."""
    start = 0
    while found := RECORD.match(content, start):
        end = start + int(found[1])
        yield found[2], content[found.end() : end - 1]
        if end <= start:
            return
        start = end
