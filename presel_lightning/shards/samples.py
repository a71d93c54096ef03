"""Samples of a shard: the members that share a key, one after the other, and their uid."""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass

from presel_lightning.filters.faults import Fault
from presel_lightning.filters.uids import uid_of_hex
from presel_lightning.shards.tar_members import Member, members

KEY = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)", re.DOTALL)
"""Key and ending of a name, as webdataset divides it."""
META = re.compile(r"__[^/]*__(?:$|/)")
"""Members that webdataset passes over."""
FLAT_UID = re.compile(rb'"uid"\s*:\s*"([0-9A-Fa-f]{32})"')
NAMED = b'"uid"'


@dataclass(frozen=True, slots=True)
class ShardSample:
    """A sample: its members by their endings in lower case, in the order of the tar."""

    key: str
    members: dict[str, Member]


def samples(tar: mmap.mmap | bytes) -> Iterator[ShardSample]:
    """Samples of a shard that are whole, in their order.

    Raises:
        BrokenTar: behind them; the one in which the tar breaks off is not among them.
    """
    sample: ShardSample | None = None
    for member in members(tar):
        found = KEY.fullmatch(member.name)
        if found is None or META.match(member.name):
            continue
        key, ending = found[1], found[2].lower()
        if sample is None or key != sample.key:
            if sample is not None:
                yield sample
            sample = ShardSample(key, {})
        sample.members.setdefault(ending, member)
    if sample is not None:
        yield sample


def uid_in(tar: mmap.mmap | bytes, sample: ShardSample, path: str) -> tuple[int, int]:
    """The uid in the `.json` of a sample.

    Raises:
        Fault: there is none.
    """
    member = sample.members.get("json")
    if member is None:
        raise Fault(path, "no_uid", f"{sample.key} has no .json")
    content = tar[member.offset : member.offset + member.size]
    # of an object without others in it, the pattern finds the key and no part of a text, as quotes
    # in texts are escaped; all else is parsed
    if (
        content.count(b"{") == 1
        and content.count(NAMED) == 1
        and (found := FLAT_UID.search(content))
    ):
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
