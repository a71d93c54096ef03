"""The records of a run folder: written in the order of the annotations, read one by one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from presel_lightning.data.conversation import IMAGE, InvalidRecordError, parse
from presel_lightning.data.entries import MAX_RECORD, Entry, Record
from presel_lightning.data.json_records import TOO_LARGE
from presel_lightning.data.uid import canonical
from presel_lightning.records import Turn, system_prompt
from presel_lightning.run.files import replacing

RECORDS = pa.schema(
    [
        ("id", pa.string()),
        ("image", pa.string()),
        ("task", pa.string()),
        ("n_turns", pa.int32()),
        ("n_words", pa.int32()),
        ("has_system", pa.bool_()),
        ("key", pa.binary(16)),
        ("turns", pa.binary(16)),
        ("record", pa.large_string()),
        ("file", pa.string()),
        ("number", pa.string()),
        ("images", pa.list_(pa.string())),  # null where there is one
    ]
)
BATCH = 4096
"""Records held at a time."""

ENCODE = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
Row = dict[str, Any]


def records_path(out: Path) -> Path:
    """Every well-formed record, in the order of the annotations."""
    return out / "work" / "records.arrow"


def texts_path(out: Path) -> Path:
    """Every well-formed text-only record, where these are kept."""
    return out / "work" / "texts.arrow"


@contextmanager
def writing(path: Path) -> Iterator[Callable[[Row], None]]:
    """Hand out what takes rows one by one and writes `BATCH` of them at a time."""
    rows: list[Row] = []
    with (
        replacing(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, RECORDS) as writer,
    ):

        def add(row: Row) -> None:
            rows.append(row)
            if len(rows) == BATCH:
                write()

        def write() -> None:
            writer.write_batch(pa.RecordBatch.from_pylist(rows, RECORDS))
            rows.clear()

        yield add
        write()


def row_of(entry: Entry) -> Row:
    """What a record has with or without an image."""
    record = entry.record
    turns, text = parse(record), _text(record)
    return {
        "id": str(record.get("id", "")),
        "n_turns": len(turns),
        "n_words": sum(len(t["value"].split()) for t in record.get("conversations") or []),
        "has_system": bool(system_prompt(turns)),
        "turns": digest_turns(turns),
        "record": text,
        "file": entry.file,
        "number": str(entry.number),
    }


def _text(record: Record) -> str:
    """A record as JSON that every reader can take.

    Raises:
        InvalidRecordError: there is none.
    """
    try:
        text = ENCODE(record)
    except ValueError as error:
        raise InvalidRecordError("bad_number", f"a number is infinite or none: {error}") from error
    if not text.isprintable() and _has_surrogate(text):
        raise InvalidRecordError(
            "not_unicode", "a text or file name that is no Unicode (a lone surrogate)"
        )
    if len(text) > MAX_RECORD:
        raise InvalidRecordError(*TOO_LARGE)
    return text


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def digest_of(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """Name a JSON value: 16 bytes of blake2b."""
    return digest16(canonical(value).encode())


def digest16(content: bytes) -> bytes:
    """Name some bytes: 16 bytes of blake2b."""
    return hashlib.blake2b(content, digest_size=16).digest()


def digest_turns(turns: Sequence[Turn]) -> bytes:
    """Name a conversation: 16 bytes of blake2b over its system prompt, questions and answers."""
    said: list[Any] = [[t.question, t.answer, *[IMAGE] * t.image_here, *t.images_at] for t in turns]
    system = system_prompt(turns)
    return digest_of([system, *said] if system else said)


def read_facts(path: Path, names: Sequence[str]) -> pa.Table:
    """Some columns of the records, without the others; each column in one piece."""
    with pa.memory_map(str(path)) as file:  # the other columns are not read
        return pa.ipc.open_file(file).read_all().select(names).combine_chunks()


class RecordReader:
    """Single records of `records.arrow`, read from the file as they are asked for.

    Args:
        path: of the file; every batch of it but the last holds `BATCH` records.
    """

    def __init__(self, path: Path) -> None:
        self._map = pa.memory_map(str(path))
        reader = pa.ipc.open_file(self._map)
        self._batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]

    def __getitem__(self, row: int) -> Record:
        """The record of a row, as the annotation file has it."""
        record: Record = json.loads(self.value(row, "record"))
        return record

    def value(self, row: int, column: str) -> Any:  # noqa: ANN401 - as the column has it
        """What a column says of a row."""
        return self._batches[row // BATCH][column][row % BATCH].as_py()

    def __enter__(self) -> Self:
        """Use it as long as it is open."""
        return self

    def __exit__(self, *failure: object) -> None:
        """Close the file."""
        self._batches = []
        self._map.close()
