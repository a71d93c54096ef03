"""Folders of images as a stream of records."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from presel_lightning.data.entries import Entry, Record

PICTURES = re.compile(
    r"\.(jpe?g?|jfif|a?png|webp|gif|bmp|dib|tiff?|p[pgbna]m|avif|hei[cf]|jp2|j2k|jpx|jxl|ico|psd|"
    r"svgz?|tga|exr|hdr|dng|raw|cr[23]|nef|arw|orf|rw2|raf)"
)
"""Endings that picture tools write, whether the pool reads these formats or not."""
SIGNS = (
    re.compile(rb"\xff\xd8\xff|\x89PNG|GIF8|II\*\0|MM\0\*"),
    re.compile(rb"RIFF....WEBP", re.DOTALL),
    re.compile(rb"BM....\0\0\0\0", re.DOTALL),
    re.compile(rb"P[1-6]\s+[\d#]"),
)
"""How files of the formats begin that the pool reads."""
SYSTEM = ("thumbs.db", "ehthumbs.db", "desktop.ini")


def folder_records(root: Path, passed_over: Counter[str] | None = None) -> Iterator[Record]:
    """List a folder of folders of images as records without instruction, sorted by path.

    The first folder level is the task; without any, all is one task, called as the folder. A file
    without the ending of a picture that does not begin as one is passed over, as hidden files and
    folders are. Links to folders are not followed: they become records, and then problems.

    Args:
        root: the folder.
        passed_over: counts the files that are passed over, by kind.
    """
    files = folder_files(root, passed_over)
    flat = not any("/" in relative for relative in files)
    for relative in files:
        task, _, rest = relative.partition("/")
        if flat:
            yield {"id": Path(relative).stem, "image": relative, "task": root.resolve().name}
        elif rest:
            yield {"id": f"{task}/{Path(relative).stem}", "image": relative, "task": task}
        else:
            yield {"id": Path(relative).stem, "image": relative}


def folder_entries(root: Path, passed_over: Counter[str]) -> Iterator[Entry]:
    """The same as entries; an image is found by its path, so that they bear no number."""
    for record in folder_records(root, passed_over):
        yield Entry(record, "")


def folder_files(root: Path, passed_over: Counter[str] | None = None) -> list[str]:
    """Paths of all files below a folder that may be pictures, relative to it, sorted."""
    found: list[str] = []
    others = Counter[str]() if passed_over is None else passed_over
    for folder, folders, files in os.walk(root):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        folders[:] = [name for name in folders if not name.startswith(".") and name not in links]
        for name in files:
            if kind := other_kind(folder, name):
                others[kind] += 1
            else:
                found.append(Path(folder, name).relative_to(root).as_posix())
        visible = [name for name in links if not name.startswith(".")]
        found += [Path(folder, name).relative_to(root).as_posix() for name in visible]
    return sorted(found)


def other_kind(folder: str, name: str) -> str | None:
    """What a file is that no picture tool has written; None for what may be a picture."""
    if name.startswith("."):
        return "hidden"
    ending = os.path.splitext(name)[1].lower()
    if PICTURES.fullmatch(ending) or _begins_as_picture(os.path.join(folder, name)):
        return None
    return name if name.lower() in SYSTEM else ending or "without ending"


def _begins_as_picture(path: str) -> bool:
    """Whether a file begins as a picture, or cannot be read: the check of images says why."""
    if not os.path.isfile(path):
        return True
    try:
        with open(path, "rb") as handle:
            start = handle.read(16)
    except OSError:
        return True
    return any(sign.match(start) for sign in SIGNS)
