"""Records to pool: checked, named, sorted by uid, written without ever holding all of them."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import astuple, dataclass, field, fields
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from presel_lightning.data.conversation import InvalidRecordError, images_of, is_text_only
from presel_lightning.data.entries import Entry
from presel_lightning.data.exclude import EXCLUDED
from presel_lightning.data.image_memory import ABSENT, Fact, Found, Scan, fact_of
from presel_lightning.data.images import DIGEST, Track, scan_images
from presel_lightning.data.pixels import counted
from presel_lightning.data.record_file import (
    BATCH,
    RecordReader,
    Row,
    digest_of,
    read_facts,
    records_path,
    row_of,
    texts_path,
    writing,
)
from presel_lightning.data.resolver import OutsideRoot, Resolver
from presel_lightning.data.source import PoolSource
from presel_lightning.data.uid import canonical, uid_of
from presel_lightning.records import Problem
from presel_lightning.run.files import replacing
from presel_lightning.run.fingerprint import fingerprint

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
SEVERAL = pa.field("images", pa.list_(pa.string()))
"""Column of a pool in which records have several images; null where one has a single one."""
SEEN = pa.schema(
    [
        ("image", pa.string()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("ctime_ns", pa.int64()),
        ("digest", pa.binary(16)),
        ("look", pa.uint64()),
    ]
)
FACTS = ("id", "image", "images", "task", "n_turns", "key")
"""What of the records is held while the pool is put together."""
LONGEST = 1000
"""Characters of a field of `problems.csv`."""


@dataclass(frozen=True)
class PoolCounts:
    """What became of the records.

    Attributes:
        pool: samples.
        text_only: records without an image, kept apart.
        problems: records that were left out.
        by_problem: those by kind.
        passed_over: files of folders that are no pictures, by kind.
        shown: images that a plain conversion does not show as viewers do, all and by kind.
        notices: lines that say how something was read.
    """

    pool: int
    text_only: int
    problems: int
    by_problem: dict[str, int]
    passed_over: dict[str, int] = field(default_factory=dict)
    shown: dict[str, int] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


def manifest_path(out: Path) -> Path:
    """`pool.parquet`: uid, id, image, task, n_turns, has_instruction; sorted by uid.

    Where a record has several images, `image` is the first, and one more column, `images`, has all.
    """
    return out / "pool.parquet"


def order_path(out: Path) -> Path:
    """Row of `records.arrow` that belongs to each row of the manifest."""
    return out / "work" / "order.npy"


def seen_path(out: Path) -> Path:
    """Size, times, content digest and perceptual hash of every image that was checked."""
    return out / "work" / "images.parquet"


def pool_key(source: PoolSource) -> str:
    """Name a pool by all that it depends on."""
    return fingerprint({"pool": 5, **source.fingerprint()})


def build_pool(source: PoolSource, out: Path, track: Track | None = None) -> PoolCounts:
    """Write `pool.parquet`, `problems.csv` and the records of a pool.

    Args:
        source: where it comes from.
        out: run folder.
        track: shows progress.
    """
    problems: list[Problem] = []
    passed_over: Counter[str] = Counter()
    notices: list[str] = []
    stream = source.entries(passed_over, notices)
    tracked = track(stream, "reading records", None) if track else stream
    text_only = _write_records(tracked, out, problems, keep_texts=source.text_only)
    facts = read_facts(records_path(out), FACTS)
    occurrence, repeats = _number_all(facts["key"], records_path(out))
    uids = _uids(facts, occurrence)
    if unknown := set(source.exclude) - set(uids.astype(str).tolist()):
        notices.append(
            f"{len(unknown)} of {len(source.exclude)} uids of data.exclude are no record of "
            f"data.annotations, such as {min(unknown)}"
        )
    shown: Counter[str] = Counter()
    kept = _keep(source, out, facts, uids, repeats, problems, shown, track)
    _write_pool(out, facts, uids, kept)
    _write_problems(out, problems)
    kinds = Counter(problem.problem for problem in problems)
    counts = len(kept), text_only, len(problems)
    left_out = dict(kinds.most_common()), dict(passed_over.most_common())
    return PoolCounts(*counts, *left_out, dict(shown), tuple(notices))


def _write_records(
    entries: Iterable[Entry], out: Path, problems: list[Problem], *, keep_texts: bool
) -> int:
    """Stream the well-formed records to disk; returns the number of text-only ones."""
    text_only = 0
    with ExitStack() as files:
        add = files.enter_context(writing(records_path(out)))
        add_text = files.enter_context(writing(texts_path(out))) if keep_texts else None
        for entry in entries:
            try:
                row = examined_row(entry)
                if "key" in row:
                    add(row)
                    continue
                if add_text is not None:
                    add_text(row)
                text_only += 1
            except InvalidRecordError as odd:
                problems.append(_problem(entry, odd.problem, str(odd)))
    return text_only


def examined_row(entry: Entry) -> Row:
    """Row of a record that can be used; one with an image has `image`, `task` and `key`.

    Raises:
        InvalidRecordError: it cannot be used.
    """
    if entry.fault:
        raise InvalidRecordError(*entry.fault)
    record, row = entry.record, row_of(entry)
    if is_text_only(record):
        return row
    if not (images := images_of(record)):
        raise InvalidRecordError("no_image", "neither an image nor a conversation about none")
    if entry.task is None:
        raise InvalidRecordError("unknown_task", "no task key, file or rule names it")
    several = list(images) if len(images) > 1 else None
    key = digest_of([entry.task, several or images[0], row["id"]])
    return {**row, "image": images[0], "images": several, "task": entry.task, "key": key}


def _problem(entry: Entry, problem: str, detail: str) -> Problem:
    record, task = entry.record, entry.task or ""
    image = record.get("image") or ""
    image = ", ".join(map(str, image)) if isinstance(image, list) else str(image)
    named = str(record.get("id", ""))[:LONGEST], image[:LONGEST]
    return Problem(*named, task[:LONGEST], problem, detail, entry.file, str(entry.number))


def _number_all(keys: pa.ChunkedArray, path: Path) -> tuple[list[int], np.ndarray]:
    """Occurrence of every record, and which ones repeat another whole.

    Records of one (task, image, id) are numbered in the order of their canonical JSON.
    """
    groups = pa.table({"key": keys, "row": np.arange(len(keys))}).group_by("key", use_threads=False)
    counted = groups.aggregate([("row", "list"), ("row", "count")])
    several = counted.filter(pc.field("row_count") > 1)
    occurrence = [0] * len(keys)
    repeats = np.zeros(len(keys), dtype=bool)
    with RecordReader(path) as records:
        for rows in several["row_list"].to_pylist():
            texts = {row: canonical(records[row]) for row in rows}
            number: dict[str, int] = {}
            for row in sorted(rows, key=texts.__getitem__):
                repeats[row] = texts[row] in number
                occurrence[row] = number.setdefault(texts[row], len(number))
    return occurrence, repeats


def _rows_in(column: pa.ChunkedArray, values: pa.Array) -> list[int]:
    """Numbers of the rows whose value is one of these."""
    rows: list[int] = np.flatnonzero(pc.is_in(column, value_set=values)).tolist()
    return rows


def _uids(facts: pa.Table, occurrence: Iterable[int]) -> np.ndarray:
    """Uid of every record, (N,) ASCII."""
    columns = ["task", "image", "id", *(["images"] if has_several(facts["images"]) else [])]
    batches = facts.select(columns).to_batches(max_chunksize=BATCH)
    rows = (row for b in batches for row in zip(*(c.to_pylist() for c in b.columns), strict=True))
    named = (
        uid_of(task, (several and several[0]) or image, sample_id, number)
        for (task, image, sample_id, *several), number in zip(rows, occurrence, strict=True)
    )
    return np.fromiter(named, dtype="S32", count=len(facts))


def has_several(images: pa.ChunkedArray) -> bool:
    """Whether any record has several images."""
    return bool(images.null_count < len(images))


def _keep(
    source: PoolSource,
    out: Path,
    facts: pa.Table,
    uids: np.ndarray,
    repeats: np.ndarray,
    problems: list[Problem],
    shown: Counter[str],
    track: Track | None,
) -> np.ndarray:
    """Rows without a problem, in the order of their uids."""
    several = _several(facts["images"])
    images = sorted({*facts["image"].unique().to_pylist(), *chain(*several.values())})
    scans = scan_images(
        source.resolver,
        images,
        max_pixels=source.max_pixels,
        pixels=source.pixels,
        verify=source.verify,
        workers=source.workers,
        cache=out / "work" / "images.sqlite",
        track=track,
    )
    found = _write_seen(out, images, scans, shown)
    bad = repeats.copy()
    bad[_rows_in(facts["image"], pa.array(list(found), pa.string()))] = True
    excluded = [row for row, uid in enumerate(uids) if uid.decode() in source.exclude]
    bad[excluded] = True
    faulty = {row: next((i for i in all_ if i in found), "") for row, all_ in several.items()}
    bad[[row for row, image in faulty.items() if image]] = True
    with RecordReader(records_path(out)) as records:
        for row in np.flatnonzero(bad).tolist():
            sample_id, image, task = (facts[name][row].as_py() for name in ("id", "image", "task"))
            image = faulty.get(row) or image
            repeated = "repeated_record", f"the same as another record, uid {uids[row].decode()}"
            if repeats[row]:
                kind, detail = repeated
            elif image in found:
                kind, detail = found[image]
            else:
                kind, detail = EXCLUDED, source.exclude[uids[row].decode()]
            file, number = (records.value(row, name) for name in ("file", "number"))
            problems.append(Problem(sample_id, image, task, kind, detail, file, number))
    kept = np.flatnonzero(~bad)
    return kept[np.argsort(uids[kept])]


def _several(column: pa.ChunkedArray) -> dict[int, list[str]]:
    """Images of the records that have several, by row."""
    rows = np.flatnonzero(column.is_valid().to_numpy())
    return dict(zip(rows.tolist(), column.take(rows).to_pylist(), strict=True))


def _write_seen(
    out: Path, images: list[str], scans: Iterable[tuple[str, Fact, Scan]], shown: Counter[str]
) -> dict[str, Found]:
    """Write down what names and dates each image; returns what is wrong with some of them."""
    facts = np.empty((len(images), 3), dtype=np.int64)
    digests = np.zeros(len(images), f"V{DIGEST}")
    looks = np.zeros(len(images), dtype=np.uint64)
    faults: dict[str, Found] = {}
    for row, (image, fact, scan) in enumerate(scans):
        facts[row] = fact
        if scan.fault is not None:
            faults[image] = scan.fault
        else:
            digests[row], looks[row] = np.void(scan.digest), scan.look
            if scan.shown:
                shown.update(counted(scan.shown))
    columns = [pa.array(images, pa.string()), *map(pa.array, facts.T.copy())]
    columns += [packed16(digests), pa.array(looks)]
    with replacing(seen_path(out)) as path:
        pq.write_table(pa.Table.from_arrays(columns, schema=SEEN), path)
    return faults


def packed16(digests: np.ndarray) -> pa.Array:
    """Digests of 16 bytes, (N,), as a column."""
    data = pa.py_buffer(np.ascontiguousarray(digests))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(digests), [None, data])


def images_changed(out: Path, inside: Resolver) -> bool:
    """Whether an image of the last look was mended, replaced or lost since."""
    if not seen_path(out).exists() or not pq.read_schema(seen_path(out)).equals(SEEN):
        return True
    table = pq.read_table(seen_path(out))
    columns = (table[name].to_pylist() for name in SEEN.names[:4])
    return any(
        _fact_of(inside, image) != tuple(fact) for image, *fact in zip(*columns, strict=True)
    )


def _fact_of(inside: Resolver, image: str) -> Fact:
    try:
        return fact_of(inside(image))
    except OutsideRoot:
        return ABSENT


def _write_pool(out: Path, facts: pa.Table, uids: np.ndarray, kept: np.ndarray) -> None:
    """Write the order of the records, then the manifest, which makes the pool whole."""
    with replacing(order_path(out)) as path, path.open("wb") as handle:
        np.save(handle, kept)
    taken = facts.select(["id", "image", "task", "n_turns"]).take(kept).combine_chunks()
    manifest = {
        "uid": pa.array(uids[kept]).cast(pa.string()),
        **{name: taken[name] for name in taken.column_names},
        "has_instruction": pc.greater(taken["n_turns"], 0),
    }
    table = pa.table(manifest, schema=MANIFEST)
    if has_several(images := facts["images"].take(kept)):
        table = table.append_column(SEVERAL, images)
    with replacing(manifest_path(out)) as path:
        pq.write_table(table, path)


def _write_problems(out: Path, problems: list[Problem]) -> None:
    path = out / "problems.csv"
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as handle,
    ):
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow([field.name for field in fields(Problem)])
        writer.writerows(sorted(tuple(map(_shown, astuple(problem))) for problem in problems))


def _shown(text: str) -> str:
    """A field that every reader of CSV takes for one field of one row."""
    return text.replace("\r", "\\r").replace("\0", "\\0")
