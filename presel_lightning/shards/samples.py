"""Samples of a shard: the members that share a key, one after the other, and their uid."""

from __future__ import annotations

import json
import mmap
import re
from pathlib import Path
from typing import Any, NamedTuple

import fsspec

from presel_lightning.filters.annotations import annotated_uids, is_annotation_file
from presel_lightning.filters.faults import Fault
from presel_lightning.filters.uids import uid_of_hex
from presel_lightning.run.units import state_of
from presel_lightning.shards.tar_members import BrokenTar, Member, members

KEY = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)", re.DOTALL)
"""Key and ending of a name, as webdataset divides it."""
META = re.compile(r"__[^/]*__(?:$|/)")
"""Members that webdataset passes over."""
FLAT_UID = re.compile(rb'"uid"\s*:\s*"([0-9A-Fa-f]{32})"')
NAMED = b'"uid"'
OBJECTS = re.compile(rb"\{(?![\\}])")
"""Braces that may open an object with keys: a backslash follows only in texts."""


def shard_state(path: Path) -> list[Any]:
    """Name the content of a shard, and of the annotations beside it."""
    files = fsspec.filesystem("file")
    state, beside = state_of(files, str(path)), path.with_suffix(".json")
    if is_annotation_file(beside.as_posix()) and beside.is_file():
        return [state, state_of(files, str(beside))]
    return state


class ShardSample(NamedTuple):
    """A sample: its members by their endings in lower case, in the order of the tar."""

    key: str
    members: dict[str, Member]


def samples(tar: mmap.mmap | bytes) -> tuple[list[ShardSample], BrokenTar | None]:
    """Samples of a shard that are whole, in their order, and where the tar breaks off.

    The sample in which it does is not among them.
    """
    found: list[ShardSample] = []
    all_members, fault = members(tar)
    for member in all_members:
        name = KEY.fullmatch(member.name)
        if name is None or (member.name.startswith("__") and META.match(member.name)):
            continue
        key, ending = name[1], name[2].lower()
        if not found or key != found[-1].key:
            found.append(ShardSample(key, {}))
        found[-1].members.setdefault(ending, member)
    return (found[:-1] if fault else found), fault


def uid_in(tar: mmap.mmap | bytes, sample: ShardSample, path: str) -> tuple[int, int]:
    """The uid in the `.json` of a sample, else that of the annotations beside its shard.

    Raises:
        Fault: there is none.
    """
    try:
        return _own_uid(tar, sample, path)
    except Fault:
        beside = annotated_uids(path).get(sample.key)
        uid = None if beside is None else uid_of_hex(beside)
        if uid is None:
            raise
        return uid


def _own_uid(tar: mmap.mmap | bytes, sample: ShardSample, path: str) -> tuple[int, int]:
    member = sample.members.get("json")
    if member is None:
        raise Fault(path, "no_uid", f"{sample.key} has no .json")
    content = tar[member.offset : member.offset + member.size]
    # of an object without others in it, the pattern finds the key and no part of a text, as quotes
    # in texts are escaped; all else is parsed
    flat = content.endswith(b"}") and len(OBJECTS.findall(content)) == 1
    if flat and content.count(NAMED) == 1 and (found := FLAT_UID.search(content)):
        text = found[1].decode()
        return int(text[:16], 16), int(text[16:], 16)
    try:
        record = json.loads(content)
    except ValueError as error:
        raise Fault(path, "no_uid", f"{sample.key}: its .json cannot be read ({error})") from error
    text = record.get("uid") if isinstance(record, dict) else None
    uid = uid_of_hex(text) if isinstance(text, str) else None
    if uid is None:
        problem = "no_uid" if text is None else "malformed_uid"
        raise Fault(path, problem, f"{sample.key}: uid is {text!r}")
    return uid
