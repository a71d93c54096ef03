"""Image formats that the pool reads: one opener for all of them, and the endings of their files."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

from PIL import Image

PLAIN = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""Plain pictures, and nothing that runs another program (EPS) to decode."""

ENDINGS = {
    "JPEG": (".jpg", ".jpeg"),
    "MPO": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm"),
}
"""Endings of a format that image tools read a file by, the usual one first."""

HEIC = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
AVIF = (b"avif", b"avis")
"""Brands, bytes 8 to 12 of a file, of both formats."""


@cache
def formats() -> tuple[str, ...]:
    """Names of the formats that can be read here, as Pillow calls them.

    AVIF needs Pillow 11.3, HEIF (HEIC) the package pillow-heif, the extra `heif`.
    """
    found: tuple[str, ...] = PLAIN
    if find_spec("PIL.AvifImagePlugin"):
        found += ("AVIF",)
    if find_spec("pillow_heif"):
        from pillow_heif import register_heif_opener

        register_heif_opener()
        found += ("HEIF",)
    return found


def open_image(file: Path | BytesIO) -> Image.Image:
    """Open an image file of one of the formats; its pixels are not decoded yet.

    Args:
        file: path, or its content.

    Raises:
        UnidentifiedImageError: it is of none of them.
    """
    image = Image.open(file, formats=formats())
    if image.format == "TIFF":
        # Pillow would map an uncompressed file into memory; of one that an orientation turns to
        # its side it takes the width for the height then, and scrambles the pixels
        image.filename = ""
    return image


def why_unread(path: Path) -> str:
    """Say why a file is of none of the formats, with the cure where there is one."""
    with path.open("rb") as handle:
        start = handle.read(12)
    if start[4:8] == b"ftyp" and start[8:] in HEIC and "HEIF" not in formats():
        return "a HEIC image: pip install 'presel-lightning[heif]' reads it"
    if start[4:8] == b"ftyp" and start[8:] in AVIF and "AVIF" not in formats():
        return "an AVIF image: Pillow 11.3 or later reads it"
    return f"none of {', '.join(formats())}"
