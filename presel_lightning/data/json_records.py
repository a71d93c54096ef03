"""Records of JSON lists and JSON lines, streamed; what is wrong with one ends no other."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from functools import partial
from math import isinf
from pathlib import Path
from typing import Any, BinaryIO

from presel_lightning.data.entries import MAX_DEPTH, MAX_RECORD, Entry, Fault, Record, is_deep
from presel_lightning.data.values import Digits
from presel_lightning.errors import UserError

FORM = "expected a JSON list of records, or JSON lines with one record each"
BOM = b"\xef\xbb\xbf"
CHUNK = 1 << 20
"""Bytes of a list that are read at a time."""
LONGEST_TOKEN = 16
"""Characters: an error nearer to the end of a text than this may be due to that end."""
SPACE = re.compile(r"[ \t\n\r]*")
MARK = re.compile(r'\\.|["{}\[\],\n]', re.DOTALL)
NO_UTF8 = re.compile("[\udc80-\udcff]")
"""What stands for bytes that could not be decoded."""
INTEGERS = range(-(2**63), 2**64)
LONGEST_INTEGER = 20
"""Digits and sign of the longest integer of 64 bits."""
TOO_DEEP = Fault("too_deep", f"more than {MAX_DEPTH} levels of lists and objects")
TOO_LARGE = Fault("too_large", f"over {MAX_RECORD} characters")


class Decoder:
    """Decodes JSON values and notes what JSON allows, but other readers do not."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._decode = json.JSONDecoder(
            object_pairs_hook=self._object,
            parse_int=self._integer,
            parse_float=self._float,
            parse_constant=self._constant,
        ).raw_decode

    def __call__(self, text: str, start: int = 0) -> tuple[object, int, Fault | None]:
        """The value that begins at `start`, its end, and what is wrong with it.

        Raises:
            json.JSONDecodeError: it is no JSON.
            RecursionError: it is nested too deeply to be decoded.
        """
        self._faults.clear()
        value, end = self._decode(text, start)
        if end - start > MAX_RECORD:
            return {}, end, TOO_LARGE
        if self._faults:
            return value, end, self._faults[0]
        if not text.isascii() and NO_UTF8.search(text, start, end):
            return value, end, Fault("not_unicode", "bytes that are no UTF-8")
        brackets = text.count("[", start, end) + text.count("{", start, end)
        if brackets > MAX_DEPTH and is_deep(value):
            return {}, end, TOO_DEEP
        return value, end, None

    def _object(self, pairs: list[tuple[str, Any]]) -> Record:
        record = dict(pairs)
        if len(record) < len(pairs):
            keys = [key for key, _ in pairs]
            again = next(key for number, key in enumerate(keys) if key in keys[:number])
            self._faults.append(Fault("repeated_key", f"the key {again[:80]!r} occurs twice"))
        return record

    def _integer(self, text: str) -> int | None:
        if len(text) > LONGEST_INTEGER or (number := int(text)) not in INTEGERS:
            self._faults.append(Fault("bad_number", f"the integer {text:.40} is over 64 bits"))
            return None
        return number

    def _float(self, text: str) -> float:
        number = Digits(text)
        if isinf(number):
            self._faults.append(Fault("bad_number", f"{text:.40} is out of the range of 64 bits"))
        return number

    def _constant(self, name: str) -> None:
        self._faults.append(Fault("bad_number", f"{name} is no JSON number"))


def decoded(decoder: Decoder, text: str) -> tuple[Record, Fault | None]:
    """The record that is all of a text; an empty one where there is none."""
    text = text.strip()
    try:
        value, end, fault = decoder(text)
        if end < len(text):
            raise json.JSONDecodeError("extra data", text, end)
    except json.JSONDecodeError as error:
        return {}, Fault("not_json", f"{error.msg}, column {error.colno}")
    except RecursionError:
        return {}, TOO_DEEP
    return _record(value, fault)


def _record(value: object, fault: Fault | None) -> tuple[Record, Fault | None]:
    if isinstance(value, dict):
        return value, fault
    kind = type(value).__name__
    return {}, fault or Fault("not_a_record", f"a record is an object, not {kind}")


def json_entries(path: Path) -> Iterator[Entry]:
    """Stream the records of a JSON list or of JSON lines, as its first characters tell.

    A byte that is no UTF-8 is a fault of its record alone.

    Raises:
        UserError: the file cannot be read, is empty, or is a list that breaks off.
    """
    try:
        handle = path.open("rb")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; check data.annotations") from error
    with handle:
        start = len(BOM) if handle.read(len(BOM)) == BOM else 0
        handle.seek(start)
        heading = [line.strip() for line in _filled(handle, 2)]
        handle.seek(start)
        if not heading:
            raise UserError(f"{path} is empty; {FORM}")
        yield from ListReader(handle, path) if _begins_list(heading) else json_lines(handle)


def _filled(handle: BinaryIO, n: int) -> Iterator[bytes]:
    """The first lines that are not blank, or their beginnings."""
    begins = True
    for piece in iter(partial(handle.readline, CHUNK), b""):
        if begins and piece.strip():
            yield piece
            n -= 1
        begins = piece.endswith(b"\n") or (begins and not piece.strip())
        if not n:
            return


def _begins_list(heading: list[bytes]) -> bool:
    """Whether these first lines are those of a list; those of JSON lines may hold one as well."""
    first, *rest = heading
    lines = rest and rest[0].startswith(b"{") and not first.endswith((b"[", b",", b":"))
    return first.startswith(b"[") and not lines


def json_lines(handle: BinaryIO) -> Iterator[Entry]:
    """Stream the records of JSON lines; each is numbered by its line."""
    decoder = Decoder()
    for number, line in enumerate(_lines(handle), start=1):
        if len(line) > MAX_RECORD:
            yield Entry({}, number, TOO_LARGE, "line")
        elif text := line.strip():
            record, fault = decoded(decoder, text.decode(errors="surrogateescape"))
            yield Entry(record, number, fault, "line")


def _lines(handle: BinaryIO) -> Iterator[bytes]:
    """Lines, of which one that is too long is cut."""
    read = partial(handle.readline, MAX_RECORD + 1)
    for line in iter(read, b""):
        yield line
        rest = line
        while len(rest) > MAX_RECORD and not rest.endswith(b"\n"):
            rest = read()


class ListReader:
    """Streams the records of a JSON list.

    A record that is no JSON is passed over up to the comma or bracket behind it.

    Args:
        handle: the file, at the start of its text.
        path: its name, for messages.
    """

    def __init__(self, handle: BinaryIO, path: Path) -> None:
        self._handle, self._path = handle, path
        self._bytes = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._decoder = Decoder()
        self._text, self._at, self._line = "", 0, 1
        self._number = 0

    def __iter__(self) -> Iterator[Entry]:
        """Every record with its number.

        Raises:
            UserError: the list breaks off, or something stands between or behind its records.
        """
        self._next()
        self._at += 1
        more = self._next() != "]"
        while more:
            self._number += 1
            yield self._entry()
            mark = self._next()
            if mark not in (",", "]"):
                raise self._broken("expected a comma or the end of the list")
            more = mark == ","
            self._at += more
        self._at += 1
        if self._next():
            raise self._broken("text behind the end of the list")

    def _more(self) -> bool:
        """Read on, and forget what lies behind; whether there was more."""
        chunk = self._handle.read(CHUNK)
        self._line += self._text.count("\n", 0, self._at)
        self._text = self._text[self._at :] + self._bytes.decode(chunk, final=not chunk)
        self._at = 0
        return bool(chunk)

    def _next(self) -> str:
        """Go to the next character that is no space; the empty text at the end of the file."""
        while True:
            self._at = SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _entry(self) -> Entry:
        self._next()
        while True:
            held = len(self._text) - self._at
            try:
                value, end, fault = self._decoder(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._may_be_cut(error) and held <= MAX_RECORD and self._more():
                    continue
                line = self._line + self._text.count("\n", 0, error.pos)
                broken = Fault("not_json", f"{error.msg}, line {line}")
                return self._skipped(TOO_LARGE if held > MAX_RECORD else broken)
            except RecursionError:
                return self._skipped(TOO_DEEP)
            if end == len(self._text) and self._more():
                continue
            self._at = end
            record, fault = _record(value, fault)
            return Entry(record, self._number, fault)

    def _may_be_cut(self, error: json.JSONDecodeError) -> bool:
        near = error.pos > len(self._text) - LONGEST_TOKEN
        return near or error.msg.startswith("Unterminated string")

    def _skipped(self, fault: Fault) -> Entry:
        """Pass over the record that begins here: to a comma or bracket of the list itself.

        No string of JSON goes over the end of a line.
        """
        depth, quoted = 0, False
        while mark := self._mark():
            if mark in ('"', "\n"):
                quoted = mark == '"' and not quoted
            elif quoted:
                continue
            elif depth == 0 and mark in ",]}":
                self._at -= 1
                return Entry({}, self._number, fault)
            elif mark in "{[]}":
                depth += 1 if mark in "{[" else -1
        raise self._broken(f"{fault.detail}, and no end of this record")

    def _mark(self) -> str:
        """Go behind the next character that may end a record; empty at the end of the file."""
        while True:
            found = MARK.search(self._text, self._at)
            if found:
                self._at = found.end()
                return found[0]
            cut = self._text.endswith("\\") and len(self._text) > self._at
            self._at = len(self._text) - cut
            if not self._more():
                return ""

    def _broken(self, reason: str) -> UserError:
        line = self._line + self._text.count("\n", 0, self._at)
        return UserError(
            f"{self._path}, line {line}, record {self._number}: not JSON ({reason[:120]}); {FORM}; "
            "of a list that breaks off nothing is used: fetch or write the file again"
        )
