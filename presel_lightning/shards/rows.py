"""Where the image and the caption of each sample of a shard lie, and reading them."""

from __future__ import annotations

import json
import mmap
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from presel_lightning.data.tars import IMAGES
from presel_lightning.filters.faults import Fault, Listed
from presel_lightning.filters.uids import UID, as_hex
from presel_lightning.shards.samples import ShardSample, samples, uid_in
from presel_lightning.shards.tar_members import BrokenTar, Member, mapped

PLACE = np.dtype([("offset", "<i8"), ("size", "<i8")])
ROW = np.dtype([("uid", UID), ("image", PLACE), ("text", PLACE), ("json", PLACE)])
"""A sample: its uid, and offset and size of the members that are read; size -1 where there is none."""
OPEN = 64
"""Shards that are kept open."""


class WebSample(NamedTuple):
    """A sample as it lies in its shard."""

    uid: str
    image: bytes
    caption: str


def shard_rows(path: Path, listed: Listed) -> np.ndarray:
    """Find the samples of a shard that have a uid and an image, in its order.

    Args:
        path: of the shard.
        listed: takes the others, and where the tar breaks off.

    Returns:
        (N,) of dtype `ROW`.
    """
    found = []
    try:
        with mapped(path) as tar:
            whole, broken = samples(tar)
            for sample in whole:
                try:
                    found.append(_row(tar, sample, str(path)))
                except Fault as fault:
                    listed.add(fault)
    except (BrokenTar, OSError) as error:
        whole, broken = [], BrokenTar(str(error))
    if broken is not None:
        listed.add(Fault(str(path), "corrupt_tar", f"{broken}, behind {len(whole)} samples"))
    return np.array(found, ROW)


def _row(tar: mmap.mmap, sample: ShardSample, path: str) -> tuple[object, ...]:
    uid = uid_in(tar, sample, path)
    image = next((sample.members[end] for end in IMAGES if end in sample.members), None)
    if image is None:
        raise Fault(path, "no_image", f"{sample.key} has {', '.join(sample.members)}")
    others = (sample.members.get(ending) for ending in ("txt", "json"))
    return uid, *map(_place, (image, *others))


def _place(member: Member | None) -> tuple[int, int]:
    return (0, -1) if member is None else (member.offset, member.size)


def read_sample(path: Path, row: np.void) -> WebSample:
    """Read a sample: its caption is the `.txt`, else `caption` or `text` of the `.json`, else empty.

    Args:
        path: of the shard.
        row: of `shard_rows`.
    """
    uid = as_hex(np.array([row["uid"]], UID))[0]
    caption = caption_in(*(_content(path, row[name]) for name in ("text", "json")))
    return WebSample(uid, _content(path, row["image"]) or b"", caption)


def caption_in(text: bytes | None, record: bytes | None) -> str:
    """The caption in the `.txt` of a sample, else in its `.json`, else empty."""
    if text is not None:
        return text.decode("utf-8", errors="replace").strip()
    found = json.loads(record or b"{}")
    return str(found.get("caption") or found.get("text") or "").strip()


def _content(path: Path, place: np.void) -> bytes | None:
    """Bytes of a member; None where there is none."""
    if place["size"] < 0:
        return None
    handle = _opened(str(path))
    handle.seek(int(place["offset"]))
    content: bytes = handle.read(int(place["size"]))
    return content


@lru_cache(maxsize=OPEN)
def _opened(path: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
    """Open a shard for this process; one that is not used any longer is closed with its object."""
    return open(path, "rb")


def shards_in(folder: Path) -> list[Path]:
    """Tars of a folder and below, sorted by their paths."""
    return sorted(path for path in folder.rglob("*.tar") if path.is_file())
