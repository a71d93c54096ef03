"""Samples of webdataset tars: the members that share a key, one after the other."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

from presel_lightning.data.entries import Fault, Record
from presel_lightning.data.fields import MAX_IMAGE, Packed
from presel_lightning.data.json_records import Decoder, decoded

IMAGES = (
    "jpg jpeg jpe jfif png webp gif bmp tif tiff ppm pgm pbm avif heic heif".split()  # noqa: SIM905
)
TEXTS = ("json", "cls", "txt")
MAX_TEXT = 1 << 24
"""Bytes of a member that holds fields."""
MAX_MEMBERS = 64
"""Members of a sample that are read."""
NUMBERED = re.compile(r"\d+\.[^.]+")
"""Ending of one of several images, `0.jpg`."""
KEY = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)", re.DOTALL)
"""Key and ending: a member's name up to the first dot behind its last slash, and the rest."""
BROKEN = (tarfile.TarError, OSError, ValueError, OverflowError, EOFError)
"""What a tar that is none, or not whole, makes its reader raise."""
BLOCK = 512
CUT = "the tar breaks off"
NO_IMAGE = "no image beside {}; a name ends at its first dot"


@dataclass(frozen=True, slots=True)
class _Member:
    key: str
    ending: str
    content: bytes = b""
    fault: str = ""


def tar_samples(path: Path, task_key: str) -> Iterator[Packed]:
    """Stream the samples of one tar.

    A sample is an image member, or several that are numbered (`key.0.jpg`, `key.1.jpg`), and beside it `.json` (a record of any form that `adopted` knows, or
    some of its fields), `.cls` (a class) and `.txt` (kept as the field `txt`); a `.json` alone may be
    a conversation about no image. Its task is `json[task_key]`, else the class, else the name of
    the folder that the tar lies in. What cannot be read becomes a sample with a fault, and the
    members behind it are read.
    """
    decoder, folder = Decoder(), path.absolute().parent.name
    samples = groupby(_members(path), key=lambda member: member.key)
    for number, (key, members) in enumerate(samples, start=1):
        some = list(islice(members, MAX_MEMBERS + 1))
        record, images, fault = _sample(some, task_key, folder, decoder)
        image, more = (images[0], tuple(images[1:])) if images else (None, ())
        absent = "" if fault or images else NO_IMAGE.format(_endings(some))
        name = (key if key.startswith("/") else f"{path.stem}/{key}").rstrip("/")
        place = f"{number} {key}".rstrip()
        problem, reason = fault or ("not_unpacked", "")
        yield Packed(name, record, image, reason, absent, problem, path.name, place, more)


def _members(path: Path) -> Iterator[_Member]:
    """Members that belong to samples, and one with a fault wherever something is broken."""
    end = number = 0
    cut = False
    try:
        with tarfile.open(path, "r:", encoding="utf-8", ignore_zeros=True) as tar:
            for info in _infos(tar, path.stat().st_size):
                if info.offset > end and (gap := _gap(path, end, number)):
                    yield gap
                number, end = number + 1, tar.offset
                tar.members = []  # type: ignore[attr-defined]  # a tar of a million members is not held
                member = _member(tar, info)
                cut = member is not None and member.fault.startswith(CUT)
                if member:
                    yield member
    except BROKEN as error:
        yield _Member("", "", fault=f"{CUT} after {number} members: {error}")
        return
    if not cut and (gap := _gap(path, end, number)):
        yield gap


def _infos(tar: tarfile.TarFile, size: int) -> Iterator[tarfile.TarInfo]:
    """Headers of all members; behind a broken one they are looked for block by block."""
    start = 0
    while start < size:
        try:
            info = tar.next()
            if info is None:
                return
            if tar.offset <= start:
                raise tarfile.ReadError("a member has no size")
        except BROKEN:
            broken = tar.offset if start < tar.offset < size else start
            start = tar.offset = broken + BLOCK
            continue
        yield info
        start = tar.offset = tar.offset if tar.offset <= size else info.offset_data


def _gap(path: Path, start: int, number: int) -> _Member | None:
    """The member whose header cannot be read, by the name that stands in it.

    None where a block of zeros, which ends a tar, stands there instead.
    """
    with path.open("rb") as handle:
        handle.seek(start)
        header = handle.read(BLOCK)
    if header == bytes(BLOCK):
        return None
    named = header[:100].split(b"\0")[0].decode(errors="surrogateescape")
    match = KEY.fullmatch(named.removeprefix("./"))
    key, ending = (match[1], match[2].lower()) if match else ("", "")
    fault = f"{CUT} after {number} members"
    if len(header) == BLOCK:
        fault = f"the header at byte {start}, behind {number} members, is broken"
    return _Member(key, ending, fault=fault)


def _member(tar: tarfile.TarFile, info: tarfile.TarInfo) -> _Member | None:
    """A member with its content; None where it is nothing that belongs to a sample."""
    match = KEY.fullmatch(info.name.removeprefix("./"))
    if match is None or info.isdir():
        return None
    key, ending = match[1], match[2].lower()
    last = ending.rpartition(".")[2]
    if last not in IMAGES and ending not in TEXTS:
        return None
    if not info.isreg() or info.issparse():
        return _Member(key, ending, fault=f"its .{ending} is a link or no plain file")
    limit = MAX_IMAGE if last in IMAGES else MAX_TEXT
    if info.size > limit:
        return _Member(key, ending, fault=f"its .{ending} has {info.size} bytes, over {limit}")
    if last != ending and not NUMBERED.fullmatch(ending):  # `.mask.png` stands beside an image
        return _Member(key, ending)
    handle = tar.extractfile(info)
    try:
        return _Member(key, ending, handle.read() if handle else b"")
    except BROKEN as error:
        return _Member(key, ending, fault=f"{CUT} in its .{ending}: {error}")


def _sample(
    members: list[_Member], task_key: str, folder: str, decoder: Decoder
) -> tuple[Record, list[bytes], Fault | None]:
    """Record and images that members make, and what is wrong with them."""
    faults = [member.fault for member in members if member.fault]
    endings = [member.ending for member in members]
    images = [member for member in members if member.ending in IMAGES] or _numbered(members)
    texts = {member.ending: member.content for member in members if member.ending in TEXTS}
    fields, fault = _fields(texts, decoder)
    one = len(images) < 2 or images[0].ending not in IMAGES
    if not one or len(set(endings)) < len(endings):
        faults.append(f"its members are {_endings(members)}; one image, and no ending twice")
    if len(members) > MAX_MEMBERS:
        faults.append(f"it has more than {MAX_MEMBERS} members")
    if not images and not faults and set(endings) - set(TEXTS):
        faults.append(NO_IMAGE.format(_endings(members)))
    record: Record = {"id": members[0].key, **fields}
    if record.get(task_key) in (None, ""):
        record[task_key] = record.get("cls") or folder
    if faults:
        fault = Fault("not_unpacked", "; ".join(faults))
    return record, [] if fault else [member.content for member in images], fault


def _numbered(members: list[_Member]) -> list[_Member]:
    """The images of a sample that has several, in the order of their numbers; one is a name with a dot."""
    found = [member for member in members if NUMBERED.fullmatch(member.ending)]
    found.sort(key=lambda member: int(member.ending.split(".")[0]))
    return found if len(found) > 1 else []


def _endings(members: list[_Member]) -> str:
    return ", ".join(member.ending for member in members)


def _fields(texts: dict[str, bytes], decoder: Decoder) -> tuple[Record, Fault | None]:
    """Record that the members beside an image make, and what is wrong with its JSON."""
    record: Record = {
        name: texts[name].decode(errors="surrogateescape").strip()
        for name in ("cls", "txt")
        if name in texts
    }
    own, fault = decoded(decoder, texts.get("json", b"{}").decode(errors="surrogateescape"))
    record |= own
    return record, fault
