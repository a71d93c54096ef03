"""Records written in every form of annotations that can hold them."""

from __future__ import annotations

import csv
import io
import json
import random
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from presel_lightning.data.fields import conversation
from tests.bench.mutations import Made, broken

BLOCK = 512
"""Bytes of a header of a tar."""
TURN = pa.list_(pa.struct([("from", pa.string()), ("value", pa.string())]))
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def value_of(text: str) -> Any:
    """A record as Python reads it; None where it cannot, or where a key is repeated."""

    def record(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key is repeated")
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=record)
    except (ValueError, RecursionError):
        return None


def is_plain(value: object) -> bool:
    """Whether a table can hold a value: text without margins and without halves of characters."""
    if not isinstance(value, str) or value != value.strip() or "\r" in value or "\x00" in value:
        return False
    return value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value)


def write_list(path: Path, texts: Sequence[str]) -> range:
    """A JSON list."""
    path.write_text("[" + ",\n".join(texts) + "]", encoding="utf-8")
    return range(1, len(texts) + 1)


def write_lines(path: Path, texts: Sequence[str | bytes]) -> range:
    """JSON lines."""
    lines = [text.encode() if isinstance(text, str) else text for text in texts]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return range(1, len(texts) + 1)


def rows_of(one: Made) -> list[list[str]] | None:
    """Rows of a table that say what a record says; None where none do."""
    record = value_of(one.text)
    keys = ("id", "image", "task", "conversations")
    if not isinstance(record, dict) or tuple(record) != keys or len(one.text) > 100_000:
        return None
    named = [record["id"], record["image"], record["task"]]
    turns = record["conversations"]
    if not all(map(is_plain, named)) or not isinstance(turns, list) or record["image"] == "":
        return None
    said = [(q.get("value"), a.get("value")) for q, a in pairs_of(turns)]
    if not all(is_plain(text) and text for pair in said for text in pair):
        return None
    pairs = [
        (str(q).removeprefix("" if n else "<image>\n"), str(a)) for n, (q, a) in enumerate(said)
    ]
    if conversation(pairs) != turns:
        return None
    return [[*named, *pair] for pair in pairs or [("", "")]]


def pairs_of(turns: list[Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Questions and answers, whatever they are."""
    entries = [turn if isinstance(turn, dict) else {} for turn in turns]
    return list(zip(entries[::2], entries[1::2], strict=False))


def table_row(rows: list[list[str]]) -> str:
    """The lines of a record in a table."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def write_table(path: Path, rows: Sequence[bytes]) -> list[int]:
    """A table; returns the line that each record begins in."""
    path.write_bytes(b"id,image,task,question,answer\n" + b"".join(rows))
    lines = [2]
    for row in rows:
        lines.append(lines[-1] + row.count(b"\n"))
    return lines[:-1]


def is_image_kept(one: Made) -> bool:
    """Whether a record has id and task, and its own image: a tar has them for every sample."""
    value = value_of(one.text)
    if value is None:
        return f'"image": "{one.image}", "task": "task-' in one.text and len(one.text) < 1_000_000
    if not isinstance(value, dict) or value.get("image") != one.image:
        return False
    task = value.get("task")
    return "id" in value and isinstance(task, str) and task != "" and len(one.text) < 1_000_000


def with_image(one: Made, path: str) -> str:
    """A record that names another image."""
    return one.text.replace(f'"image": "{one.image}"', f'"image": "{path}"')


def write_tar(path: Path, held: Sequence[Made], images: Sequence[bytes]) -> range:
    """A tar, an image and a `.json` a sample."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for one in held:
            for ending, content in (("png", images[one.number % len(images)]), ("json", one.text)):
                raw = content.encode() if isinstance(content, str) else content
                info = tarfile.TarInfo(f"{one.number:07d}.{ending}")
                info.size = len(raw)
                tar.addfile(info, io.BytesIO(raw))
    return range(1, len(held) + 1)


def break_members(path: Path, picked: set[int], rng: random.Random) -> None:
    """Change bytes of one member of some samples: of its content, or of its header."""
    content = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        members = tar.getmembers()
    for number in picked:
        info = rng.choice(members[2 * number : 2 * number + 2])
        places = range(info.offset + 100, info.offset + BLOCK)  # not the name
        if rng.random() < 0.5:
            places = range(info.offset_data, info.offset_data + info.size)
        for _ in range(rng.choice((1, 3))):
            content[rng.choice(places)] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def columns_of(one: Made) -> dict[str, Any] | None:
    """The columns of a dataset that say what a record says; None where none do."""
    value = value_of(one.text)
    if not isinstance(value, dict) or value.get("image") != one.image or len(value) < 3:
        return None
    turns = value.get("conversations")
    texts = [value.get("id"), value.get("task")]
    if turns is not None:
        if not isinstance(turns, list) or not all(isinstance(t, dict) for t in turns):
            return None
        if any(set(turn) - {"from", "value"} for turn in turns):
            return None
        texts += [text for turn in turns for text in (turn.get("from"), turn.get("value"))]
    if not all(text is None or isinstance(text, str) for text in texts) or texts[0] is None:
        return None
    if any("\ud800" <= letter <= "\udfff" for letter in "".join(text or "" for text in texts)):
        return None
    return {"id": texts[0], "task": texts[1], "conversations": turns}


def write_parquet(
    path: Path, rows: Sequence[dict[str, Any]], images: Sequence[bytes], picked: set[int], seed: int
) -> range:
    """A Parquet file of small row groups; some rows lack their image or hold no UTF-8."""
    rng = random.Random(seed)
    shown: list[dict[str, Any] | None] = [
        {"bytes": images[row["number"] % len(images)], "path": None} for row in rows
    ]
    ids = [row["id"].encode() for row in rows]
    for number in picked:
        kind = rng.randrange(3)
        if kind == 0:
            ids[number] += b"\xff"
        else:
            shown[number] = None if kind == 1 else {"bytes": None, "path": "a.png"}
    table = pa.table(
        {
            "image": pa.array(shown, IMAGE),
            "id": pa.array(ids, pa.binary()).view(pa.string()),
            "task": pa.array([row["task"] for row in rows], pa.string()),
            "conversations": pa.array([row["conversations"] for row in rows], TURN),
        }
    )
    pq.write_table(table, path, row_group_size=500)
    return range(1, len(rows) + 1)


def broken_line(rng: random.Random, text: str) -> bytes:
    """One line of a text file, broken; its end stays."""
    return broken(rng, text.rstrip("\n").encode()).strip() or b"x"
