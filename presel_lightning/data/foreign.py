"""Sources of a pool that hold no records: archives, documents, single images, empty folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from presel_lightning.data.formats import formats
from presel_lightning.errors import UserError

ARCHIVE = "unpack it and give the file or folder that it holds"
IMAGE = "give the folder that holds the images"
OTHER = "give a folder of folders of images, or an annotation file"
KINDS = (
    (0, b"PK\x03\x04", "a zip archive or a spreadsheet", f"{ARCHIVE}, or save the table as CSV"),
    (0, b"\x1f\x8b", "a gzip archive", ARCHIVE),
    (0, b"BZh", "a bzip2 archive", ARCHIVE),
    (0, b"\xfd7zXZ\x00", "an xz archive", ARCHIVE),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", ARCHIVE),
    (0, b"Rar!", "a rar archive", ARCHIVE),
    (0, b"\x28\xb5\x2f\xfd", "a zstd archive", ARCHIVE),
    (0, b"\xff\xd8\xff", "an image", IMAGE),
    (0, b"\x89PNG", "an image", IMAGE),
    (0, b"GIF8", "an image", IMAGE),
    (0, b"II*\x00", "an image", IMAGE),
    (0, b"MM\x00*", "an image", IMAGE),
    (8, b"WEBP", "an image", IMAGE),
    (0, b"%PDF", "a PDF", f"save its pages as images, and {OTHER}"),
    (4, b"ftyp", "a video or an image that is not read", f"convert it to JPEG, and {OTHER}"),
    (0, b"\xff\xfe", "text in UTF-16", "save it in UTF-8"),
    (0, b"\xfe\xff", "text in UTF-16", "save it in UTF-8"),
    (0, b"version https://", "a pointer of Git LFS", "fetch the file with `git lfs pull`"),
    (0, b"<!DOCTYPE", "a web page", "download the file again"),
    (0, b"<html", "a web page", "download the file again"),
    (0, bytes(8), "a file of zeros", "copy or download it again"),
    (0, b"SQLite format 3", "a database", f"write its rows as JSON lines, and {OTHER}"),
)
"""First bytes by their offset, what they are of, and the cure."""


def refuse_foreign(key: str, path: Path) -> None:
    """Refuse a file that is no text.

    Args:
        key: key of the configuration that names it.
        path: file or folder.

    Raises:
        UserError: it is an archive, an image, a document or no text in UTF-8.
    """
    if not path.is_file():
        return
    with path.open("rb") as handle:
        head = handle.read(16)
    for offset, first, what, cure in KINDS:
        if head[offset:].startswith(first):
            raise UserError(f"{key} {path} is {what}; {cure}")


def nothing_usable(annotations: object, passed_over: Mapping[str, int], text_only: int) -> str:
    """Return the message on a source without a single image.

    Args:
        annotations: `data.annotations`.
        passed_over: files of its folders that are no pictures, by kind.
        text_only: records without an image.
    """
    kinds = ", ".join(f"{n} {kind}" for kind, n in passed_over.items())
    others = f"; passed over, no pictures: {kinds}" if kinds else ""
    others += f"; {text_only} records are text-only" if text_only else ""
    return (
        f"data.annotations {annotations} holds no image record{others}; give a folder with a folder "
        f"of images ({', '.join(formats())}) for each task, or a JSON list, JSON lines or a table with "
        "`image`"
    )
