"""Images: found inside their root, checked once, opened as RGB."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from PIL import Image, UnidentifiedImageError

from presel_lightning.console import ignore_image_warnings
from presel_lightning.data.image_memory import (
    ABSENT,
    Fact,
    Found,
    Memory,
    Scan,
    fact_of,
    open_memory,
)
from presel_lightning.data.pixels import Pixels, rgb_of
from presel_lightning.errors import UserError
from presel_lightning.run.fingerprint import digest_bytes
from presel_lightning.run.interruption import blocked
from presel_lightning.run.process_watch import obey_parent

Verify = Literal["full", "header"]

LIMIT = 178_956_970
"""Pixels that Pillow opens at most; its limit is one variable of the process, so it is left alone."""

MAX_PIXELS = LIMIT // 2
"""Pixels from which on Pillow itself warns of a decompression bomb."""

MAX_PROPORTION = 200
"""Longer side over shorter one that Qwen2.5-VL takes at most; others blow such an image up first."""

SQUARE = 4
"""Times the limit on pixels that the square around an image may have."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""What is read at all: plain pictures, and nothing that runs another program (EPS) to decode."""


BLOCK = 2048
"""Images between two writes of what was found: what a killed pass may lose."""

FEW = 2000
"""Images up to which starting processes costs more than it saves."""

DIGEST = 16
"""Bytes of the name of an image's content."""

OUTSIDE: Found = ("outside_root", "the path is absolute or leaves the image root")

T = TypeVar("T")


class Track(Protocol):
    """Passes items on and shows how far they are, as `console.track` does."""

    def __call__(self, items: Iterable[T], what: str, total: int | None) -> Iterator[T]:
        """Yield the items."""


class OutsideRoot(UserError):
    """An image path that leaves the image root."""


class Resolver:
    """Finds files below one root; remembers its folders, so that a file costs one call.

    Args:
        root: folder that no path may leave, also not through links or `..`.
    """

    def __init__(self, root: Path) -> None:
        self.root = os.path.realpath(root)
        self._folders: dict[str, str] = {}

    def __call__(self, relative: str) -> Path:
        """Real path of an image, whether it exists or not.

        Raises:
            OutsideRoot: it leaves the root.
        """
        if os.path.isabs(relative) or "\0" in relative:
            raise OutsideRoot(f"image path {relative!r} is not relative to the image root")
        folder, name = os.path.split(relative)
        if name in ("", ".", ".."):
            real = os.path.realpath(os.path.join(self.root, relative))
        else:
            real = os.path.join(self._folder(folder), name)
            real = os.path.realpath(real) if os.path.islink(real) else real
        if os.path.commonpath([self.root, real]) != self.root:
            raise OutsideRoot(f"image path {relative!r} leaves the image root {self.root}")
        return Path(real)

    def _folder(self, folder: str) -> str:
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(os.path.join(self.root, folder))
        return self._folders[folder]


def check_image(
    path: Path,
    max_pixels: int = MAX_PIXELS,
    verify: Verify = "full",
    pixels: Pixels = "as_shown",
) -> Found | None:
    """Check whether an image can be used; (problem, detail) if not.

    `verify="full"` decodes every pixel, `"header"` reads format and size alone. The problems:
    `missing`, `empty` (0 bytes), `not_an_image`, `truncated`, `oversized` (pixels), `elongated`,
    and `unreadable` for the rest.
    """
    if (problem := _check_file(path)) is not None:
        return problem
    try:
        with Image.open(path, formats=FORMATS) as image:
            if (problem := _check_size(*image.size, max_pixels)) is not None:
                return problem
            if verify == "full":
                image.load()
                if image.mode != "RGB":
                    rgb_of(image, pixels)
    except UnidentifiedImageError:
        return "not_an_image", f"none of {', '.join(FORMATS)}"
    except Image.DecompressionBombError as error:
        return "oversized", str(error)
    except Exception as error:  # noqa: BLE001 - decoders raise whatever they like on broken data
        kind = "truncated" if "truncated" in str(error).lower() else "unreadable"
        return kind, f"{type(error).__name__}: {error}".replace(str(path), path.name)[:200]
    return None


def _check_file(path: Path) -> Found | None:
    """What can be told without opening a file."""
    try:
        facts = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return "missing", "no such file"
    except OSError as error:
        return "unreadable", str(error.strerror)
    if not stat.S_ISREG(facts.st_mode):
        return "not_an_image", "a folder, or no plain file"
    return ("empty", "0 bytes") if facts.st_size == 0 else None


def _check_size(width: int, height: int, max_pixels: int) -> Found | None:
    """Whether an image, and the square that it is padded to, can be held."""
    if width * height <= max_pixels and max(width, height) > MAX_PROPORTION * min(width, height):
        return "elongated", f"{width}x{height} is longer than {MAX_PROPORTION}:1"
    return _check_pixels(width, height, max_pixels)


def _check_pixels(width: int, height: int, max_pixels: int) -> Found | None:
    """Whether an image, or the square that it is padded to, has too many pixels."""
    side, limit = max(width, height), SQUARE * max_pixels
    if width * height > max_pixels:
        return "oversized", f"{width}x{height} is over {max_pixels} pixels"
    if side * side > limit:
        return "oversized", f"the square around {width}x{height} is over {limit} pixels"
    return None


def open_rgb(path: Path, max_pixels: int = MAX_PIXELS, pixels: Pixels = "as_shown") -> Image.Image:
    """Decode an image of the pool, of several frames the first; see `rgb_of`.

    Nothing is decoded of a file whose header names too many pixels. No state of the process is
    changed, so any number of threads may call it.

    Args:
        path: image file.
        max_pixels: limit on width times height; four times as many on the square around it.
        pixels: `as_shown` or `published`.

    Raises:
        UserError: the image is over the limit.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            problem = _check_pixels(*image.size, max_pixels)
            if problem is None:
                return rgb_of(image, pixels)
    except Image.DecompressionBombError as error:
        raise UserError(f"image {path}: {error} Shrink it") from error
    raise UserError(
        f"image {path}: {problem[1]}; shrink it, or raise data.max_pixels ({LIMIT} at most)"
    )


def name_image(path: Path, max_pixels: int, verify: Verify, pixels: Pixels) -> Scan:
    """Check whether an image can be used, and name one that can by all bytes of its file.

    Nothing is read twice from the disk: what was decoded just now lies in the system's cache.
    """
    fault = check_image(path, max_pixels, verify, pixels)
    if fault is None:
        try:
            return Scan(None, digest_bytes(path, DIGEST))
        except OSError as error:  # gone meanwhile
            fault = ("unreadable", str(error.strerror))
    return Scan(fault)


def _only_check(path: Path, max_pixels: int, verify: Verify, pixels: Pixels) -> Scan:
    return Scan(check_image(path, max_pixels, verify, pixels))


def check_images(
    root: Path,
    relatives: Sequence[str],
    *,
    max_pixels: int = MAX_PIXELS,
    verify: Verify = "full",
    pixels: Pixels = "as_shown",
    workers: int = 1,
    cache: Path | None = None,
    track: Track | None = None,
) -> dict[str, Found]:
    """Check every image; return those that cannot be used, with problem and detail.

    Args:
        root: folder that no image may lie outside of.
        relatives: (U,) distinct paths, relative to it.
        max_pixels: images with more cannot be used.
        verify: see `check_image`.
        pixels: see `open_rgb`.
        workers: processes; a short list is done in this one.
        cache: see `scan_images`.
        track: shows how far it is.
    """
    scans = scan_images(
        root,
        relatives,
        max_pixels=max_pixels,
        verify=verify,
        pixels=pixels,
        workers=workers,
        cache=cache,
        track=track,
        named=False,
    )
    return {image: scan.fault for image, _, scan in scans if scan.fault is not None}


def scan_images(
    root: Path,
    relatives: Sequence[str],
    *,
    max_pixels: int = MAX_PIXELS,
    verify: Verify = "full",
    pixels: Pixels = "as_shown",
    workers: int = 1,
    cache: Path | None = None,
    track: Track | None = None,
    named: bool = True,
) -> Iterator[tuple[str, Fact, Scan]]:
    """Check every image; yield each with size and times of its file, and what was found.

    Args:
        root: folder that no image may lie outside of.
        relatives: (U,) distinct paths, relative to it.
        max_pixels: images with more cannot be used.
        verify: see `check_image`.
        pixels: see `open_rgb`.
        workers: processes; a short list is done in this one.
        cache: file that remembers what was found, by path, size, mtime and ctime; written every
            `BLOCK` images, so that a killed pass goes on from there.
        track: shows how far it is.
        named: whether images that can be used are named by their content; see `name_image`.
    """
    resolver = Resolver(root)
    look = partial(
        name_image if named else _only_check, max_pixels=max_pixels, verify=verify, pixels=pixels
    )
    how = f"{verify} {pixels} {max_pixels} {MAX_PROPORTION}{' named' if named else ''}"
    with open_memory(cache, how) as memory, _mapper(workers, relatives) as run:
        found = _scan(relatives, resolver, memory, lambda paths: run(look, paths))
        yield from track(found, "images", len(relatives)) if track else found


def _scan(
    relatives: Sequence[str],
    resolver: Resolver,
    memory: Memory,
    look: Callable[[list[Path]], Iterable[Scan]],
) -> Iterator[tuple[str, Fact, Scan]]:
    """Each image with what was found: recalled, or checked and then kept.

    A file's size and times are read before it is checked: one that is replaced meanwhile is
    checked again by the next start.
    """
    for start in range(0, len(relatives), BLOCK):
        paths = {image: _inside(resolver, image) for image in relatives[start : start + BLOCK]}
        facts = {path: fact_of(path) for path in paths.values() if path is not None}
        known = memory.recall(facts)
        new = [path for path in facts if path not in known]
        found = dict(zip(new, look(new), strict=True))
        memory.keep(facts, found)
        known |= found
        for image, path in paths.items():
            yield (image, ABSENT, Scan(OUTSIDE)) if path is None else (
                image, facts[path], known[path]
            )  # fmt: skip


def _inside(resolver: Resolver, relative: str) -> Path | None:
    try:
        return resolver(relative)
    except OutsideRoot:
        return None


@contextmanager
def _mapper(workers: int, relatives: Sequence[str]) -> Iterator[Callable[..., Iterable[Any]]]:
    """`map`, over processes where that pays; they are spawned, as torch may have threads."""
    if workers <= 1 or len(relatives) < FEW:
        yield map
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _begin) as pool:

        def run(look: Callable[[Path], T], paths: Sequence[Path]) -> Iterator[T]:
            with blocked():  # the first call starts the processes
                return pool.map(look, paths, chunksize=16)

        yield run


def _begin() -> None:
    """Prepare a process that checks images: silent on signals and about invalid files."""
    obey_parent()
    ignore_image_warnings()
