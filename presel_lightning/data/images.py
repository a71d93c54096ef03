"""Images: checked once, opened as RGB."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from PIL import Image, UnidentifiedImageError

from presel_lightning.console import ignore_image_warnings
from presel_lightning.data.formats import formats, open_image, why_unread
from presel_lightning.data.image_memory import (
    ABSENT,
    Fact,
    Found,
    Memory,
    Scan,
    fact_of,
    open_memory,
)
from presel_lightning.data.perceptual import perceptual_hashes, thumbnail
from presel_lightning.data.pixels import Pixels, kinds_of, rgb_of
from presel_lightning.data.record_file import digest16
from presel_lightning.data.resolver import OutsideRoot, Resolver, resolver_of
from presel_lightning.errors import PreselError, UserError
from presel_lightning.run.fingerprint import digest_bytes
from presel_lightning.run.interruption import SAME, blocked, leave_if_asked
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

BLOCK = 2048
"""Images between two writes of what was found: what a killed pass may lose."""

FEW = 2000
"""Images up to which starting processes costs more than it saves."""

HELD = 1 << 26
"""Bytes of a file up to which it is read once, for its name and its pixels."""

DIGEST = 16
"""Bytes of the name of an image's content."""

T = TypeVar("T")


class Track(Protocol):
    """Passes items on and shows how far they are, as `console.track` does."""

    def __call__(self, items: Iterable[T], what: str, total: int | None) -> Iterator[T]:
        """Yield the items."""


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
    return scan_image(path, max_pixels, verify, pixels).fault


def scan_image(
    path: Path, max_pixels: int, verify: Verify, pixels: Pixels, *, named: bool = False
) -> Scan:
    """What is wrong with an image, what a plain conversion would not show, and how it looks.

    Args:
        path: image file.
        max_pixels: see `check_image`.
        verify: see `check_image`.
        pixels: see `check_image`.
        named: whether to name it by all bytes of its file, and to make the thumbnail of a decoded
            one.
    """
    if (problem := _check_file(path)) is not None:
        return Scan(problem)
    try:
        content = path.read_bytes() if named and path.stat().st_size <= HELD else None
        with open_image(path if content is None else BytesIO(content)) as image:
            if (problem := check_size(*image.size, max_pixels)) is not None:
                return Scan(problem)
            kinds = kinds_of(image, decode=verify == "full")
            thumb = b""
            if verify == "full":
                shown = image if image.mode == "RGB" else rgb_of(image, pixels)
                thumb = thumbnail(shown) if named else b""
        digest = b""
        if named:
            digest = digest_bytes(path, DIGEST) if content is None else digest16(content)
        return Scan(None, digest, kinds, thumbnail=thumb)
    except UnidentifiedImageError:
        return Scan(("not_an_image", why_unread(path)))
    except Image.DecompressionBombError as error:
        return Scan(("oversized", str(error)))
    except Exception as error:  # noqa: BLE001 - decoders raise whatever they like on broken data
        kind = "truncated" if "truncated" in str(error).lower() else "unreadable"
        detail = f"{type(error).__name__}: {error}".replace(str(path), path.name)[:200]
        return Scan((kind, detail))


def _check_file(path: Path) -> Found | None:
    """Check what is known without opening a file."""
    try:
        facts = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        windows = "; folders in a path are divided by /" if "\\" in path.name else ""
        return "missing", f"no such file{windows}"
    except OSError as error:
        return "unreadable", str(error.strerror)
    if not stat.S_ISREG(facts.st_mode):
        return "not_an_image", "a folder, or no plain file"
    return ("empty", "0 bytes") if facts.st_size == 0 else None


def check_size(width: int, height: int, max_pixels: int) -> Found | None:
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
        with open_image(path) as image:
            problem = _check_pixels(*image.size, max_pixels)
            if problem is None:
                return rgb_of(image, pixels)
    except Image.DecompressionBombError as error:
        raise UserError(f"image {path}: {error} Shrink it") from error
    raise UserError(
        f"image {path}: {problem[1]}; shrink it, or raise data.max_pixels ({LIMIT} at most)"
    )


def check_images(
    root: Path | Resolver,
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
        root: folder that no image may lie outside of, or what finds the images below it.
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
    root: Path | Resolver,
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
        root: folder that no image may lie outside of, or what finds the images below it.
        relatives: (U,) distinct paths, relative to it.
        max_pixels: images with more cannot be used.
        verify: see `check_image`.
        pixels: see `open_rgb`.
        workers: processes; a short list is done in this one.
        cache: file that remembers what was found, by path, size, mtime and ctime; written every
            `BLOCK` images, so that a killed pass goes on from there.
        track: shows how far it is.
        named: whether images that can be used are named by their content; see `scan_image`.
    """
    resolver = resolver_of(root)
    look = partial(scan_image, max_pixels=max_pixels, verify=verify, pixels=pixels, named=named)
    read = f"{verify} {pixels} {max_pixels} {MAX_PROPORTION} {' '.join(formats())}"
    how = f"{read} shown{' named 2' if named else ''}"
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
        places = {image: _inside(resolver, image) for image in relatives[start : start + BLOCK]}
        facts = {path: fact_of(path) for path in places.values() if isinstance(path, Path)}
        known = memory.recall(facts)
        new = [path for path in facts if path not in known]
        found = dict(zip(new, _hashed(list(look(new))), strict=True))
        memory.keep(facts, found)
        known |= found
        for image, path in places.items():
            if isinstance(path, Path):
                yield image, facts[path], known[path]
            else:
                yield image, ABSENT, Scan(path)


def _hashed(scans: Sequence[Scan]) -> list[Scan]:
    """The perceptual hash of each image in place of its thumbnail."""
    looks = iter(perceptual_hashes([scan.thumbnail for scan in scans if scan.thumbnail]))
    return [s._replace(look=next(looks), thumbnail=b"") if s.thumbnail else s for s in scans]


def _inside(resolver: Resolver, relative: str) -> Path | Found:
    """File of an image, or why none may be read."""
    try:
        return resolver(relative)
    except OutsideRoot as error:
        return "outside_root", str(error)


@contextmanager
def _mapper(workers: int, relatives: Sequence[str]) -> Iterator[Callable[..., Iterable[Any]]]:
    """`map`, over processes where that pays; they are spawned, as torch may have threads.

    Raises:
        PreselError: a process was killed.
    """
    if workers <= 1 or len(relatives) < FEW:
        yield map
        return
    try:
        with ProcessPoolExecutor(workers, get_context("spawn"), _begin) as pool:

            def run(look: Callable[[Path], T], paths: Sequence[Path]) -> Iterator[T]:
                with blocked():  # the first call starts the processes
                    return pool.map(look, paths, chunksize=16)

            yield run
    except BrokenProcessPool as error:
        leave_if_asked(within=SAME)
        raise PreselError(
            "a process that checks images was killed, possibly out of memory; give fewer "
            "data.num_workers: the same command continues where it stopped"
        ) from error


def _begin() -> None:
    """Prepare a process that checks images: silent on signals and about invalid files."""
    obey_parent()
    ignore_image_warnings()
