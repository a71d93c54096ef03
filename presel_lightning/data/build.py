"""Records to pool: checked, named, sorted by uid, written without ever holding all of them."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from presel_lightning.data.annotations import Record
from presel_lightning.data.conversation import Odd, is_text_only, parse
from presel_lightning.data.images import OutsideRoot, Track, check_images, resolve
from presel_lightning.data.source import PoolSource
from presel_lightning.data.uid import canonical, uid_of
from presel_lightning.records import Problem
from presel_lightning.store import replacing

MANIFEST = pa.schema(
    [
        ("uid", pa.string()),
        ("id", pa.string()),
        ("image", pa.string()),
        ("task", pa.string()),
        ("n_turns", pa.int32()),
        ("has_instruction", pa.bool_()),
    ]
)
RECORDS = pa.schema([("record", pa.large_string()), ("n_words", pa.int32())])
SEEN = pa.schema([("image", pa.string()), ("size", pa.int64()), ("mtime_ns", pa.int64())])
BATCH = 4096
"""Records held at a time."""

Row = dict[str, Any]


@dataclass(frozen=True)
class PoolCounts:
    """What became of the records.

    Attributes:
        pool: samples.
        text_only: records without an image, kept apart.
        problems: records that were left out.
        by_problem: those by kind.
    """

    pool: int
    text_only: int
    problems: int
    by_problem: dict[str, int]


def manifest_path(out: Path) -> Path:
    """`pool.parquet`: uid, id, image, task, n_turns, has_instruction; sorted by uid."""
    return out / "pool.parquet"


def records_path(out: Path) -> Path:
    """The records themselves, row by row beside the manifest."""
    return out / "work" / "records.arrow"


def seen_path(out: Path) -> Path:
    """Size and time of change of every image that was looked at."""
    return out / "work" / "images.parquet"


def build_pool(source: PoolSource, out: Path, track: Track | None = None) -> PoolCounts:
    """Write `pool.parquet`, `problems.csv` and the records of a pool.

    Args:
        source: where it comes from.
        out: run folder.
        track: shows progress.
    """
    (out / "work").mkdir(parents=True, exist_ok=True)
    problems: list[Problem] = []
    candidates = out / "work" / ".candidates.arrow"
    try:
        text_only = _write_candidates(source, candidates, problems, track)
        with pa.memory_map(str(candidates)) as mapped:
            table = pa.ipc.open_file(mapped).read_all()
            uids, repeats = _name(table)
            kept = _keep(source, out, table, uids, repeats, problems, track)
            _write_pool(out, table, uids, kept)
            del table
    finally:
        candidates.unlink(missing_ok=True)
    _write_problems(out, problems)
    kinds = Counter(problem.problem for problem in problems)
    return PoolCounts(len(kept), text_only, len(problems), dict(kinds.most_common()))


def _write_candidates(
    source: PoolSource, path: Path, problems: list[Problem], track: Track | None
) -> int:
    """Stream the well-formed records to disk; returns the number of text-only ones."""
    text_only = 0
    schema = pa.schema([*MANIFEST, *RECORDS, ("key", pa.binary(16)), ("whole", pa.binary(16))])
    rows: list[Row] = []
    stream = source.records()
    tracked = track(stream, "reading records", None) if track else stream
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for record, task in tracked:
            if is_text_only(record):
                text_only += 1
                continue
            try:
                rows.append(_candidate(record, task))
            except Odd as odd:
                problems.append(_problem(record, task, odd.problem, str(odd)))
            if len(rows) == BATCH:
                writer.write_batch(pa.RecordBatch.from_pylist(rows, schema))
                rows = []
        writer.write_batch(pa.RecordBatch.from_pylist(rows, schema))
    return text_only


def _candidate(record: Record, task: str | None) -> Row:
    turns = parse(record)
    if task is None:
        raise Odd("unknown_task", "no task key, file or rule tells it")
    sample_id = str(record.get("id", ""))
    words = sum(len(turn["value"].split()) for turn in record.get("conversations") or [])
    return {
        "uid": "",
        "id": sample_id,
        "image": record["image"],
        "task": task,
        "n_turns": len(turns),
        "has_instruction": bool(turns),
        "record": json.dumps(record, ensure_ascii=False),
        "n_words": words,
        "key": _digest([task, record["image"], sample_id]),
        "whole": _digest(record),
    }


def _digest(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    return hashlib.blake2b(canonical(value).encode(), digest_size=16).digest()


def _problem(record: Record, task: str | None, problem: str, detail: str) -> Problem:
    image = record.get("image") or ""
    return Problem(str(record.get("id", "")), str(image), task or "", problem, detail)


def _name(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Uid of every candidate, and which ones repeat another whole.

    Records of one (task, image, id) are numbered in the order of their canonical JSON.
    """
    groups: dict[bytes, list[int]] = defaultdict(list)
    for row, key in enumerate(_values(table, "key")):
        groups[key].append(row)
    occurrence = np.zeros(len(table), dtype=np.int64)
    repeats = np.zeros(len(table), dtype=bool)
    for rows in groups.values():
        if len(rows) > 1:
            _number(table, rows, occurrence, repeats)
    columns = (_values(table, name) for name in ("task", "image", "id"))
    named = zip(*columns, occurrence.tolist(), strict=True)
    return np.array([uid_of(*each) for each in named], dtype="U32"), repeats


def _number(table: pa.Table, rows: list[int], occurrence: np.ndarray, repeats: np.ndarray) -> None:
    texts = {row: canonical(json.loads(table["record"][row].as_py())) for row in rows}
    number: dict[str, int] = {}
    for row in sorted(rows, key=lambda row: texts[row]):
        repeats[row] = texts[row] in number
        occurrence[row] = number.setdefault(texts[row], len(number))


def _values(table: pa.Table, name: str) -> Iterator[Any]:
    for chunk in table[name].chunks:
        yield from chunk.to_pylist()


def _keep(
    source: PoolSource,
    out: Path,
    table: pa.Table,
    uids: np.ndarray,
    repeats: np.ndarray,
    problems: list[Problem],
    track: Track | None,
) -> np.ndarray:
    """Rows without a problem, in the order of their uids."""
    images = sorted(set(_values(table, "image")))
    found = check_images(
        source.image_root,
        images,
        max_pixels=source.max_pixels,
        verify=source.verify,
        workers=source.workers,
        cache=out / "work" / "images.sqlite",
        track=track,
    )
    _write_seen(out, source.image_root, images)
    good = ~repeats
    columns = (_values(table, name) for name in ("id", "image", "task"))
    for row, (sample_id, image, task) in enumerate(zip(*columns, strict=True)):
        if repeats[row]:
            detail = f"the same as another record, uid {uids[row]}"
            problems.append(Problem(sample_id, image, task, "repeated_record", detail))
        elif image in found:
            problems.append(Problem(sample_id, image, task, *found[image]))
            good[row] = False
    kept = np.flatnonzero(good)
    return kept[np.argsort(uids[kept])]


def _stamp(root: Path, image: str) -> tuple[int, int]:
    """Size and time of change of an image; -1 where there is none."""
    try:
        stat = resolve(root, image).stat()
    except (OSError, OutsideRoot):
        return -1, -1
    return stat.st_size, stat.st_mtime_ns


def _write_seen(out: Path, root: Path, images: list[str]) -> None:
    stamps = [_stamp(root, image) for image in images]
    columns = [images, [size for size, _ in stamps], [mtime for _, mtime in stamps]]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, SEEN, strict=True)]
    with replacing(seen_path(out)) as path:
        pq.write_table(pa.Table.from_arrays(arrays, schema=SEEN), path)


def images_changed(out: Path, root: Path) -> bool:
    """Whether an image of the last look was mended, replaced or lost since."""
    if not seen_path(out).exists():
        return True
    table = pq.read_table(seen_path(out))
    columns = (table[name].to_pylist() for name in SEEN.names)
    return any(_stamp(root, i) != (size, mtime) for i, size, mtime in zip(*columns, strict=True))


def _write_pool(out: Path, table: pa.Table, uids: np.ndarray, kept: np.ndarray) -> None:
    names = [name for name in MANIFEST.names if name != "uid"]
    with (
        replacing(manifest_path(out)) as manifest,
        replacing(records_path(out)) as records,
        pq.ParquetWriter(manifest, MANIFEST) as rows,
        pa.OSFile(str(records), "wb") as sink,
        pa.ipc.new_file(sink, RECORDS) as writer,
    ):
        for start in range(0, max(1, len(kept)), BATCH):
            part = kept[start : start + BATCH]
            columns = {name: _take(table[name], part) for name in [*names, *RECORDS.names]}
            uid = pa.array(uids[part].tolist(), pa.string())
            rows.write_batch(_batch({**columns, "uid": uid}, MANIFEST))
            writer.write_batch(_batch(columns, RECORDS))


def _take(column: pa.ChunkedArray, rows: np.ndarray) -> pa.Array:
    """Some rows of a column on disk; every chunk but the last holds `BATCH` rows."""
    chunks = column.chunks
    values = [chunks[row // BATCH][int(row % BATCH)].as_py() for row in rows]
    return pa.array(values, column.type)


def _batch(columns: dict[str, pa.Array], schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def _write_problems(out: Path, problems: list[Problem]) -> None:
    path = out / "problems.csv"
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow([field.name for field in fields(Problem)])
        writer.writerows(sorted(astuple(problem) for problem in problems))
