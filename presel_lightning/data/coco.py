"""Captions in COCO's layout: one object with `images` and `annotations`, as a stream of records."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from presel_lightning.data.entries import Entry, Fault, Record
from presel_lightning.errors import UserError

HEAD = 1 << 12
"""Bytes of a file that show its layout."""
LAYOUT = re.compile(
    rb'(\xef\xbb\xbf)?\s*\{\s*"(info|licenses|categories|type|annotations|images"\s*:\s*\[\s*\{\s*"'
    rb'(id|file_name|license|coco_url|flickr_url|height|width|date_captured))"'
)
"""First key of such a file; `images` of a record are a list of paths, never of objects with these."""


def is_coco(path: Path) -> bool:
    """Whether a file is one object that begins as COCO's annotation files do, and no JSON lines."""
    try:
        with path.open("rb") as handle:
            if LAYOUT.match(handle.read(HEAD)) is None:
                return False
            handle.seek(0)
            first = next((line for line in handle if line.strip()), b"")
            second = next((line for line in handle if line.strip()), b"")
    except OSError:
        return False  # the reader of JSON says what is wrong with it
    whole = second or (b'"images"' in first and b'"annotations"' in first)
    return bool(whole) and not second.startswith(b"{")


def coco_entries(path: Path, task_key: str = "task") -> Iterator[Entry]:
    """Stream a record for each caption: the image, and the caption as the answer to no question.

    An image with five captions is five records; its id is that of the caption. The task is that of the
    caption or of its image, where either has the field. The file is held in memory.

    Args:
        path: such as `captions_train2017.json`.
        task_key: field that names a task.

    Raises:
        UserError: it is no JSON, or holds no captions (boxes, keypoints).
    """
    images, annotations = _tables(path)
    by_id = {str(image["id"]): image for image in images if "id" in image}
    for number, annotation in enumerate(annotations, start=1):
        image = by_id.get(str(annotation.get("image_id")))
        record: Record = {"id": str(annotation.get("id", number))}
        if image is None or not isinstance(image.get("file_name"), str):
            detail = f"no image {str(annotation.get('image_id'))[:40]} with a file_name in the file"
            yield Entry(record, number, Fault("not_a_record", detail))
            continue
        record |= {"image": image["file_name"], "question": "", "answer": annotation.get("caption")}
        task = annotation.get(task_key, image.get(task_key))
        yield Entry(record if task is None else {**record, task_key: task}, number)


def _tables(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Images and annotations of a file."""
    try:
        read = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path} begins as COCO's annotations and is no JSON: {str(error)[:120]}; copy or download "
            "it again"
        ) from error
    images, annotations = read.get("images"), read.get("annotations")
    tables = [
        [row for row in table if isinstance(row, dict)] if isinstance(table, list) else []
        for table in (images, annotations)
    ]
    if not any("caption" in row for row in tables[1]):
        raise UserError(
            f"{path} has COCO's layout and no `annotations` with a `caption`; expected captions, such "
            "as captions_train2017.json"
        )
    return tables[0], tables[1]
