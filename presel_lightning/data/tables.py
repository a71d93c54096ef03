"""Samples of Hugging Face image datasets on disk, Arrow or Parquet, read without `datasets`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from presel_lightning.data.fields import MAX_IMAGE, Packed
from presel_lightning.data.forms import FORMS
from presel_lightning.data.values import Digits
from presel_lightning.errors import UserError

BATCH = 16
"""Rows of a Parquet file that are taken at a time; its reader holds their row group."""
MAX_GROUP = 1 << 20
"""Rows of a broken row group that are listed."""
SHORT = (pa.float16(), pa.float32())
"""Numbers that would gain digits as Python's."""
FOLDER = 1000
"""Images that go into one folder."""
BROKEN = (pa.ArrowException, OSError, ValueError, KeyError, TypeError)
"""What a file that is none, not whole, or of other columns makes its reader raise."""
FIELDS = ("id", *FORMS)
"""Columns that are read beside the image and the task."""
PICTURES = ("image", "images")
"""What the column of images is called; another name only where there is none of these."""


def table_samples(files: Sequence[Path], task_key: str, needs_task: bool) -> Iterator[Packed]:
    """Stream the rows of a dataset; a row is named by its number, however the files are cut.

    Its image is the struct column of `bytes` and `path`, or the list of such, that is called `image`
    or `images`, else the first such column; its task the column `task_key`, a ClassLabel by its
    name. A row with a null in place of the image may be a conversation about none.

    Args:
        files: in their order, .arrow (the stream form) or .parquet.
        task_key: column of the task.
        needs_task: whether nothing else names it.

    Raises:
        UserError: the first file cannot be read, or lacks a column.
    """
    schema = _schema(files[0])
    image = _image_column(schema, files[0])
    if needs_task and task_key not in schema.names:
        raise UserError(
            f"{files[0].parent} has no column {task_key!r} that names the task; its columns are "
            f"{_shown(schema)}: set data.task_key, data.task_files or data.task_rules"
        )
    own = [field.name for field in schema if _is_own(field.type)]
    wanted = [name for name in dict.fromkeys((*FIELDS, task_key, *own)) if name in schema.names]
    wanted = [name for name in wanted if name != image]
    classes = {name: class_names(schema, name, files[0]) for name in wanted}
    number = 0
    for file in files:
        for place, row in enumerate(_rows(file, [image, *wanted]), start=1):
            sample = _sample(number, row, image, classes)
            yield replace(sample, file=file.name, number=place)
            number += 1


def _rows(file: Path, columns: list[str]) -> Iterator[pa.RecordBatch | str]:
    """Every row of a file as a batch of its own; of one that cannot be read, the reason."""
    if file.suffix == ".parquet":
        yield from _parquet_rows(file, columns)
        return
    number = 0
    try:
        with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as reader:
            for batch in reader:
                for row in _single(batch.select(columns)):
                    yield row
                    number += 1
    except BROKEN as error:
        yield f"{file.name} breaks off after row {number}: {error}"


def _parquet_rows(file: Path, columns: list[str]) -> Iterator[pa.RecordBatch | str]:
    """The same of a Parquet file, whose groups of rows are read each for itself."""
    try:
        table = pq.ParquetFile(file, buffer_size=1 << 20)
    except BROKEN as error:
        yield f"{file.name} cannot be read: {error}"
        return
    with table:
        for group in range(table.num_row_groups):
            number, n = 0, min(table.metadata.row_group(group).num_rows, MAX_GROUP)
            try:
                for batch in table.iter_batches(BATCH, row_groups=[group], columns=columns):
                    for row in _single(batch):
                        yield row
                        number += 1
            except BROKEN as error:
                reason = f"row {number + 1} of row group {group + 1} or one before it is broken"
                yield from repeat(f"{reason}: {error}", max(1, n - number))


def _single(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch | str]:
    """The rows of a batch, of which none is read that is not valid."""
    whole = _fault(batch) is None
    for number in range(batch.num_rows):
        row = batch.slice(number, 1)
        yield row if whole else _fault(row) or row


def _fault(batch: pa.RecordBatch) -> str | None:
    try:
        batch.validate(full=True)
    except pa.ArrowException as error:
        return str(error)
    return None


def class_names(schema: pa.Schema, column: str, file: Path) -> list[str]:
    """Names of a ClassLabel, as the features that `datasets` writes beside the schema tell.

    Raises:
        UserError: these features cannot be read.
    """
    try:
        stored = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        feature = stored.get("info", {}).get("features", {}).get(column, {})
        if isinstance(feature, list):  # the features of what it is a list of
            return []
        return list(feature.get("names", ())) if feature.get("_type") == "ClassLabel" else []
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{file}: its features cannot be read ({error}); save it again") from error


def _value(scalar: pa.Scalar, names: list[str]) -> Any:  # noqa: ANN401 - any JSON value
    """A value of a row; of a ClassLabel its name, None where it has none (-1)."""
    if scalar.is_valid and scalar.type in SHORT:
        return Digits(scalar.cast(pa.string()).as_py())
    value = scalar.as_py()
    if not names or value is None:
        return value
    return names[value] if 0 <= value < len(names) else None


def _sample(
    number: int, row: pa.RecordBatch | str, image: str, classes: dict[str, list[str]]
) -> Packed:
    name = f"{number // FOLDER:05d}/{number:08d}"
    if isinstance(row, str):
        return Packed(name, {"id": str(number)}, fault=row, problem="bad_row")
    try:
        fields = {column: _value(row[column][0], classes[column]) for column in classes}
        return _packed(number, name, row[image][0].as_py(), fields)
    except BROKEN as error:
        return Packed(name, {"id": str(number)}, fault=str(error), problem="bad_row")


def _packed(number: int, name: str, image: Any, fields: dict[str, Any]) -> Packed:  # noqa: ANN401
    images = [one for one in (image if isinstance(image, list) else [image]) if one is not None]
    paths = [one["path"] for one in images if one.get("path")]
    record = {"id": Path(paths[0]).name if paths else str(number), **fields}
    contents: list[bytes] = []
    for held in images:
        content, path = held.get("bytes"), held.get("path")
        if content is None and (path or len(images) > 1):
            fault = f"row {number} holds the path {path} alone: save the dataset with its images"
            return Packed(name, record, fault=fault)
        if content is not None and len(content) > MAX_IMAGE:
            fault = f"row {number}: {len(content)} bytes, over {MAX_IMAGE}"
            return Packed(name, record, fault=fault)
        contents += [] if content is None else [content]
    if not contents:
        return Packed(name, record, absent=f"row {number} holds no image")
    return Packed(name, record, contents[0], more=tuple(contents[1:]))


def _schema(file: Path) -> pa.Schema:
    try:
        if file.suffix == ".parquet":
            return pq.read_schema(file)
        with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as reader:
            return reader.schema
    except BROKEN as error:
        raise UserError(
            f"{file}: no {file.suffix[1:]} file of a dataset ({str(error)[:80]}); save it again"
        ) from error


def _image_column(schema: pa.Schema, file: Path) -> str:
    found: list[str] = [field.name for field in schema if _holds_images(field.type)]
    if not found:
        raise UserError(
            f"{file} has no image column, a struct of `bytes` and `path` as `datasets.Image` "
            f"makes it; its columns are {_shown(schema)}"
        )
    return next((name for name in PICTURES if name in found), found[0])


def _is_own(kind: pa.DataType) -> bool:
    """Whether a column holds a field of one text or number, which is kept as it is."""
    types = pa.types
    tests = (types.is_integer, types.is_floating, types.is_boolean, types.is_string)
    return any(test(kind) for test in (*tests, types.is_large_string))


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        return False
    content = kind.field("bytes").type
    return bool(pa.types.is_binary(content) or pa.types.is_large_binary(content))


def _shown(schema: pa.Schema) -> str:
    return ", ".join(schema.names)[:200]
