"""Annotations beside shards, as DataComp-VLM's pools have them: `SOURCE/SHARD.json`, a key a sample.

    {"KEY": {"text": …, "type": …, …}, …}

A sample's uid is the `uid` of its fields where that is one, else a digest of source, shard and key.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from presel_lightning.filters.uids import uid_of_hex

NUMBERED = re.compile(r"\d{5,8}")
"""Stem of a shard, and so of its annotations."""
Fields = dict[str, Any]


def is_annotation_file(path: str) -> bool:
    """Whether a path is that of annotations by its name.

    >>> [is_annotation_file(p) for p in ("coco/000001.json", "00000_stats.json", "meta.json")]
    [True, False, False]
    """
    stem, ending = posixpath.splitext(posixpath.basename(path))
    return ending == ".json" and bool(NUMBERED.fullmatch(stem))


def annotation_table(content: bytes, path: str) -> pa.Table:
    """Annotations of a shard as metadata: `uid`, `key`, `source`, `text`, and all plain fields.

    A field of several types is one of texts. `text` is that of the fields, else their `caption`, else the turns of `conversations`, a line each.

    Raises:
        ValueError: it is no object of objects.
    """
    samples = _samples(content)
    source, shard = _place(path)
    names = {name for fields in samples.values() for name in fields}
    columns: dict[str, list[Any]] = {
        name: [_plain(fields.get(name)) for fields in samples.values()] for name in sorted(names)
    }
    columns["uid"] = [_uid(fields, source, shard, key) for key, fields in samples.items()]
    columns["key"] = list(samples)
    columns.setdefault("source", [source] * len(samples))
    if "caption" not in columns:
        columns.setdefault("text", [_turns(fields) for fields in samples.values()])
    return pa.table({name: _column(values) for name, values in columns.items()})


@lru_cache(maxsize=2)
def annotated_uids(shard: str) -> dict[str, str]:
    """Uids of the samples of a local shard by their keys; none where no annotations lie beside it."""
    path = Path(shard).with_suffix(".json")
    if not is_annotation_file(path.as_posix()) or not path.is_file():
        return {}
    source, name = _place(path.as_posix())
    try:
        samples = _samples(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return {key: _uid(fields, source, name, key) for key, fields in samples.items()}


def _samples(content: bytes) -> dict[str, Fields]:
    samples = json.loads(content)
    if not isinstance(samples, dict) or not all(isinstance(s, dict) for s in samples.values()):
        raise ValueError("it is no object of keys with their fields")
    return samples


def _place(path: str) -> tuple[str, str]:
    """Source and shard: the last folder, and the name without its ending."""
    folder, name = posixpath.split(path)
    return posixpath.basename(folder), posixpath.splitext(name)[0]


def _uid(fields: Fields, source: str, shard: str, key: str) -> str:
    own = fields.get("uid")
    if isinstance(own, str) and uid_of_hex(own):
        return own
    name = json.dumps([source, shard, key], ensure_ascii=False)
    return hashlib.blake2b(name.encode(), digest_size=16).hexdigest()


def _column(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):
        return pa.array([None if value is None else str(value) for value in values])


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float) else None


def _turns(fields: Fields) -> str | None:
    turns = fields.get("conversations")
    if not isinstance(turns, list):
        return None
    return "\n".join(str(turn.get("value", "")) for turn in turns if isinstance(turn, dict))
