"""Annotation files and image folders as a stream of records."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import ijson

from presel_lightning.data.csv_records import csv_records, is_csv
from presel_lightning.errors import UserError

Record = dict[str, Any]

FORM = "expected a JSON list of records, or JSON lines with one record each"
OTHER_FORMS = (
    ("messages",),
    ("conversation",),
    ("query", "response"),
    ("question", "answer"),
    ("instruction", "output"),
    ("prompt", "response"),
    ("prompt", "completion"),
)
"""Fields that hold an instruction elsewhere; a form is told by all of its fields."""
BOM = b"\xef\xbb\xbf"
LOOK_AGAIN = 1 << 26
"""Bytes up to which a faulty file is read whole, to tell the line of its fault."""


def read_records(paths: Path | Sequence[Path], task_key: str = "task") -> Iterator[Record]:
    """Stream the records of one or several annotation files, one after the other.

    A file called .csv or .tsv is a table. Any other is LLaVA JSON or JSON lines, as the first
    character that is no space tells, never the file's name.

    Args:
        paths: of the files.
        task_key: column that names the task of a table's row.

    Raises:
        UserError: a file is missing, is no JSON, or holds something else than records.
    """
    for path in [paths] if isinstance(paths, Path) else paths:
        yield from csv_records(path, task_key) if is_csv(path) else _read_file(path)


def _read_file(path: Path) -> Iterator[Record]:
    try:
        handle = path.open("rb")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; check data.annotations") from error
    with handle:
        first = _skip_to_content(handle)
        if first == b"":
            raise UserError(f"{path} is empty; {FORM}")
        yield from _list_items(handle, path) if first == b"[" else _lines(handle, path)


def _skip_to_content(handle: BinaryIO) -> bytes:
    """Leave the handle at the start of the text, behind a byte order mark; tell what begins it."""
    start = len(BOM) if handle.read(len(BOM)) == BOM else 0
    handle.seek(start)
    while (character := handle.read(1)).isspace():
        pass
    handle.seek(start)
    return character


def _list_items(handle: BinaryIO, path: Path) -> Iterator[Record]:
    number = 0
    try:
        for item in ijson.items(handle, "item", use_float=True):
            number += 1
            yield _checked(item, f"{path}, record {number}")
    except (ijson.JSONError, UnicodeDecodeError) as error:
        _not_json(path, number, error)


def _not_json(path: Path, number: int, error: Exception) -> NoReturn:
    place = f"after record {number}"
    if path.stat().st_size <= LOOK_AGAIN:
        try:
            json.loads(path.read_bytes())
        except json.JSONDecodeError as found:
            place = f"line {found.lineno}"
        except UnicodeDecodeError:
            place += ", not UTF-8"
    reason = " ".join(str(error).split())[:80]
    raise UserError(f"{path}, {place}: not JSON ({reason}); {FORM}") from error


def _lines(handle: Iterable[bytes], path: Path) -> Iterator[Record]:
    for number, line in enumerate(handle, start=1):
        if line.strip():
            place = f"{path}, line {number}"
            try:
                record = json.loads(line, parse_constant=_refuse_constant)
            except ValueError as error:
                raise UserError(f"{place}: not JSON ({str(error)[:80]}); {FORM}") from error
            yield _checked(record, place)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _checked(item: object, place: str) -> Record:
    if not isinstance(item, dict):
        raise UserError(f"{place}: a record is an object, not {type(item).__name__}; {FORM}")
    return item


def refuse_other_form(record: Record, path: Path) -> None:
    """See that a record without `conversations` has no instruction in another tool's form.

    It would pass for an image whose instruction is not written yet.

    Raises:
        UserError: it has; the message names the fields.
    """
    if record.get("conversations"):
        return
    for form in OTHER_FORMS:
        if all(record.get(key) for key in form):
            fields = " and ".join(f"`{key}`" for key in form)
            named = str(record.get("image") or record.get("id") or "one")[:80]
            raise UserError(
                f"{path}: the record of {named} has {fields} and no `conversations`, so it is in "
                "another tool's form; write the instruction as LLaVA does, `conversations`: "
                '[{"from": "human", "value": ...}, {"from": "gpt", "value": ...}], or, if it '
                "is none, call the field otherwise"
            )


def folder_records(root: Path) -> Iterator[Record]:
    """List a folder of folders of images as records without instruction, sorted by path.

    The first folder level is the task; without any, all is one task, called as the folder. Hidden
    files and folders are passed over; whatever else lies there becomes a record, so that a stray
    file ends as a problem and not in silence. Links to folders are not followed: they too become
    records, and then problems.
    """
    files = folder_files(root)
    flat = not any("/" in relative for relative in files)
    for relative in files:
        task, _, rest = relative.partition("/")
        if flat:
            yield {"id": Path(relative).stem, "image": relative, "task": root.resolve().name}
        elif rest:
            yield {"id": f"{task}/{Path(relative).stem}", "image": relative, "task": task}
        else:
            yield {"id": Path(relative).stem, "image": relative}


def folder_files(root: Path) -> list[str]:
    """Paths of all files below a folder that are not hidden, relative to it, sorted."""
    found: list[str] = []
    for folder, folders, files in os.walk(root):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        folders[:] = [name for name in folders if not name.startswith(".") and name not in links]
        for name in files + links:
            if not name.startswith("."):
                found.append(Path(folder, name).relative_to(root).as_posix())
    return sorted(found)
