"""Image files of an export: as they are, or rewritten where other tools would read them otherwise.

A tool that converts a file plainly ignores EXIF orientation and transparency, cuts deep gray off,
and may have no decoder for AVIF or HEIC. Such an image is written as PNG, with the pixels that the
run reads by `data.pixels`.
"""

from __future__ import annotations

import io
from pathlib import Path

from presel_lightning.data.formats import ENDINGS, open_image
from presel_lightning.data.images import LIMIT, open_rgb
from presel_lightning.data.pixels import CHANGED, Pixels, kinds_of


def is_plain(file: Path) -> bool:
    """Whether every tool reads an image file as the run does; nothing is decoded."""
    with open_image(file) as image:
        kinds = kinds_of(image, decode=False).split(",")
        return image.format in ENDINGS and not set(kinds) & set(CHANGED)


def content(file: Path, pixels: Pixels) -> bytes:
    """Bytes of an image in an export: those of its file, or a PNG."""
    if is_plain(file):
        return file.read_bytes()
    buffer = io.BytesIO()
    open_rgb(file, LIMIT, pixels).save(buffer, "PNG")  # the pool has applied data.max_pixels
    return buffer.getvalue()


def ending(file: Path) -> str:
    """Ending of an image in an export by its content, `.jpg` and not `.jpeg` or `.jfif`."""
    if not is_plain(file):
        return ".png"
    with open_image(file) as image:
        return ENDINGS[str(image.format)][0]


def name(file: Path, given: str) -> str:
    """Name of an image in an export: as given, with an ending by its content where it has another.

    Args:
        file: image file.
        given: its name or relative path in the pool.
    """
    if not is_plain(file):
        return f"{given}.png"
    with open_image(file) as image:
        known = ENDINGS[str(image.format)]
    return given if given.lower().endswith(known) else f"{given}{known[0]}"
