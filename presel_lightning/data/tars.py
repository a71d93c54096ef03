"""Samples of webdataset tars: the members that share a key, one after the other."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from presel_lightning.data.fields import MAX_IMAGE, Packed, conversation

IMAGES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm", "pgm", "pbm")
TEXTS = ("json", "cls", "txt")
MAX_TEXT = 1 << 24
"""Bytes of a member that holds fields."""
MAX_MEMBERS = 16
"""Members of a sample that are looked at."""
KEY = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)", re.DOTALL)
"""Key and ending: a member's name up to the first dot behind its last slash, and the rest."""
BROKEN = (tarfile.TarError, OSError, ValueError, OverflowError, EOFError)
"""What a tar that is none, or not whole, makes its reader raise."""
BLOCK = 512


@dataclass(frozen=True, slots=True)
class _Member:
    key: str
    ending: str
    content: bytes = b""
    fault: str = ""


def tar_samples(path: Path, task_key: str) -> Iterator[Packed]:
    """Stream the samples of one tar.

    A sample is an image member, and beside it `.json` (a LLaVA record, or any of its fields, or
    `question` and `answer`), `.cls` (a class) and `.txt` (kept as the field `txt`). Its task is
    `json[task_key]`, else the class, else the name of the folder that the tar lies in. What cannot
    be read becomes a sample with a fault.
    """
    for key, members in groupby(_members(path), key=lambda member: member.key):
        some = list(islice(members, MAX_MEMBERS))
        name = key if key.startswith("/") else f"{path.stem}/{key}"
        yield _sample(name, some, task_key, path.absolute().parent.name)


def _members(path: Path) -> Iterator[_Member]:
    number = end = 0
    try:
        with tarfile.open(path, "r:", encoding="utf-8") as tar:
            while (info := tar.next()) is not None:
                if tar.offset <= end:
                    raise tarfile.ReadError("a member has no size")
                number, end = number + 1, tar.offset
                tar.members = []  # type: ignore[attr-defined]  # a tar of a million members is not held
                if member := _member(tar, info):
                    yield member
        _check_end(path, end)
    except BROKEN as error:
        yield _Member("", "", fault=f"the tar breaks off after {number} members: {error}")


def _check_end(path: Path, end: int) -> None:
    """A tar ends with a block of zeros; where it does not, its reader stops in silence."""
    with path.open("rb") as handle:
        handle.seek(end)
        if handle.read(BLOCK) != bytes(BLOCK):
            raise tarfile.ReadError("no end mark")


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
    if last != ending:  # `.mask.png` stands beside an image
        return _Member(key, ending)
    handle = tar.extractfile(info)
    return _Member(key, ending, handle.read() if handle else b"")


def _sample(name: str, members: list[_Member], task_key: str, folder: str) -> Packed:
    record: dict[str, Any] = {}
    faults = [member.fault for member in members if member.fault]
    endings = [member.ending for member in members]
    images = [member for member in members if member.ending in IMAGES]
    texts = {member.ending: member.content for member in members if member.ending in TEXTS}
    try:
        record = _fields(texts)
    except (ValueError, RecursionError) as error:
        faults.append(f"its fields cannot be read: {error}")
    if len(images) > 1 or len(set(endings)) < len(endings):
        faults.append(f"its members are {', '.join(endings)}; one image, and no ending twice")
    if not images and not faults:
        faults.append(f"no image beside {', '.join(endings)}; a name ends at its first dot")
    record = {"id": members[0].key, **record}
    if record.get(task_key) in (None, ""):
        record[task_key] = record.get("cls") or folder
    image = images[0].content if images and not faults else None
    return Packed(name.rstrip("/"), record, image, "; ".join(faults))


def _fields(texts: dict[str, bytes]) -> dict[str, Any]:
    """Record that the members beside an image make.

    Raises:
        ValueError: they are not UTF-8, or the JSON is none, or no object.
    """
    fields = {name: texts[name].decode().strip() for name in ("cls", "txt") if name in texts}
    told = json.loads(texts.get("json", b"{}"))
    if not isinstance(told, dict):
        what = f"the .json holds a {type(told).__name__}, not an object"
        raise ValueError(what)  # noqa: TRY004 - of the kind that a faulty text raises
    record = {**fields, **told}
    question, answer = record.get("question"), record.get("answer")
    if "conversations" not in record and (question or answer):
        record["conversations"] = conversation([(str(question or ""), str(answer or ""))])
    return record
