from __future__ import annotations

import os
import struct
import subprocess
import sys
import unicodedata
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import active_children
from pathlib import Path
from threading import Barrier
from typing import ClassVar, Literal, TypeVar

import numpy as np
import pytest
from PIL import Image

from presel_lightning.data import images
from presel_lightning.data.image_memory import Scan
from presel_lightning.data.images import check_image, check_images, open_rgb, scan_image
from presel_lightning.data.pixels import Pixels
from presel_lightning.data.resolver import OutsideRoot, Resolver, tidy
from presel_lightning.errors import PreselError, UserError

T = TypeVar("T")

LIMIT = 178_956_970
"""Pixels that Pillow opens at most, as its documentation says."""


def save(path: Path, size: tuple[int, int] = (64, 48), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(path)
    return path


def cut(path: Path, share: float = 0.5) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


@pytest.mark.parametrize(
    "relative", ["/etc/passwd", "../../etc/passwd", "a/../../x", "out/x.jpg", "link.jpg", "a\0b"]
)
def test_resolve_path_outside_the_root_raises(tmp_path: Path, relative: str) -> None:
    root = tmp_path / "root"
    outside = save(tmp_path / "else" / "x.jpg")
    root.mkdir()
    (root / "out").symlink_to(outside.parent)
    (root / "link.jpg").symlink_to(outside)
    with pytest.raises(OutsideRoot):
        Resolver(root)(relative)
    assert check_images(root, [relative])[relative][0] == "outside_root"


def test_resolve_sibling_with_root_prefix_raises(tmp_path: Path) -> None:
    save(tmp_path / "root2" / "x.jpg")
    (tmp_path / "root").mkdir()
    with pytest.raises(OutsideRoot):
        Resolver(tmp_path / "root")("../root2/x.jpg")


def test_resolve_accepts_links_inside_the_root(tmp_path: Path) -> None:
    real = save(tmp_path / "root" / "a" / "x.jpg")
    (tmp_path / "root" / "b").symlink_to(real.parent)
    (tmp_path / "alias").symlink_to(tmp_path / "root")
    for relative in ("a/x.jpg", "b/x.jpg", "a/../b/./x.jpg"):
        assert Resolver(tmp_path / "alias")(relative) == real.resolve()


def test_resolve_follows_links_out_of_the_root_on_request(tmp_path: Path) -> None:
    outside = save(tmp_path / "disk" / "x.jpg")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "coco").symlink_to(outside.parent)
    (tmp_path / "root" / "y.jpg").symlink_to(outside)
    follow = Resolver(tmp_path / "root", follow_links=True)
    assert follow("coco/x.jpg") == follow("y.jpg") == outside.resolve()
    for relative in ("../disk/x.jpg", "a/../../disk/x.jpg", str(outside)):
        with pytest.raises(OutsideRoot):
            follow(relative)


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_resolve_matches_composed_and_decomposed_names(
    tmp_path: Path, forms: tuple[Literal["NFC", "NFD"], Literal["NFC", "NFD"]]
) -> None:
    asked, on_disk = (unicodedata.normalize(form, "über/café.jpg") for form in forms)
    real = save(tmp_path / on_disk)
    assert Resolver(tmp_path)(asked) == real.resolve()
    same = save(tmp_path / asked)
    assert Resolver(tmp_path)(asked) == same.resolve()


@pytest.mark.parametrize(
    ("given", "tidied"),
    [
        ("./a.jpg", "a.jpg"),
        ("a//./b.jpg", "a/b.jpg"),
        ("a/../b.jpg", "a/../b.jpg"),
        ("/a.jpg", "/a.jpg"),
        (".hidden/a.jpg", ".hidden/a.jpg"),
        ("./", "./"),
    ],
)
def test_tidy_removes_parts_that_say_nothing(given: str, tidied: str) -> None:
    assert tidy(given) == tidied


def test_check_image_reports_each_kind_of_problem(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    cut(save(tmp_path / "cut.jpg"))
    cut(save(tmp_path / "cut.png"))
    save(tmp_path / "large.png", (100, 100))
    save(tmp_path / "long.png", (201, 1))
    save(tmp_path / "square.png", (200, 10))
    found = {
        path.name: check_image(path, max_pixels=9999)
        for path in [*tmp_path.iterdir(), tmp_path / "none.jpg", tmp_path / "text.jpg" / "x"]
    }
    assert {name: fault and fault[0] for name, fault in found.items()} == {
        "text.jpg": "not_an_image",
        "empty.jpg": "empty",
        "folder.jpg": "not_an_image",
        "cut.jpg": "truncated",
        "cut.png": "truncated",
        "large.png": "oversized",
        "long.png": "elongated",
        "square.png": "oversized",
        "none.jpg": "missing",
        "x": "missing",
    }
    assert not any(str(tmp_path) in detail for _, detail in filter(None, found.values()))


@pytest.mark.parametrize("size", [(200, 1), (1, 200), (1500, 8), (100, 99)])
def test_check_image_accepts_elongated_images_within_limits(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    assert check_image(save(tmp_path / "a.png", size)) is None


def test_check_image_header_mode_does_not_decode(tmp_path: Path) -> None:
    path = cut(save(tmp_path / "cut.jpg"))
    assert check_image(path, verify="header") is None
    assert check_image(path, max_pixels=9, verify="header") == (
        "oversized",
        "64x48 is over 9 pixels",
    )


@pytest.mark.parametrize(
    ("name", "mode"),
    [("a.jpg", "L"), ("a.jpg", "CMYK"), ("a.png", "P"), ("a.png", "RGBA"), ("a.gif", "P")],
)
def test_open_rgb_converts_every_mode_to_rgb(tmp_path: Path, name: str, mode: str) -> None:
    path = save(tmp_path / name, mode=mode)
    assert check_image(path) is None
    image = open_rgb(path)
    assert image.mode == "RGB" and image.size == (64, 48)


def header_only(path: Path, width: int, height: int) -> Path:
    """A PNG whose header names a size, and which holds no pixel."""
    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + size
    crc = struct.pack(">I", zlib.crc32(chunk))
    begun = struct.pack(">I", 100) + b"IDAT"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(size)) + chunk + crc + begun)
    return path


class Watched(type(Path())):  # type: ignore[misc]
    """A path that notes Pillow's limit and the warning filters whenever it is opened."""

    seen: ClassVar[list[object]] = []

    def __fspath__(self) -> str:
        self.seen.append((Image.MAX_IMAGE_PIXELS, list(warnings.filters)))
        return str(super().__fspath__())


@pytest.mark.parametrize("read", [check_image, open_rgb])
def test_reading_image_leaves_process_state_alone(
    read: Callable[[Path], object], tmp_path: Path
) -> None:
    path = Watched(save(tmp_path / "a.png"))
    before = (Image.MAX_IMAGE_PIXELS, list(warnings.filters))
    Watched.seen.clear()
    read(path)
    assert Watched.seen and all(state == before for state in Watched.seen)


def test_reading_images_in_threads_keeps_pixel_limit_and_filters(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", (8, 8))
    before = (Image.MAX_IMAGE_PIXELS, list(warnings.filters))
    together = Barrier(8)

    def read(_: int) -> None:
        together.wait()
        for _ in range(50):
            open_rgb(path)
            assert check_image(path) is None

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(read, range(8)))
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before


@pytest.mark.parametrize("max_pixels", [64 * 48 - 1, 64 * 64 // 4 - 1], ids=["itself", "square"])
def test_open_rgb_over_limit_is_refused(max_pixels: int, tmp_path: Path) -> None:
    path = save(tmp_path / "a.png")
    with pytest.raises(UserError, match=rf"{path}: .*64x48 is over .*; .* data\.max_pixels"):
        open_rgb(path, max_pixels)
    assert open_rgb(path, 64 * 48).size == (64, 48)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_open_rgb_reads_header_before_pixels(tmp_path: Path) -> None:
    """The file holds no pixel at all: an attempt to decode it would say so."""
    large, legal = header_only(tmp_path / "a.png", 9500, 9500), tmp_path / "b.png"
    with pytest.raises(UserError, match="9500x9500 is over 89478485 pixels"):
        open_rgb(large)
    assert check_image(large) == ("oversized", "9500x9500 is over 89478485 pixels")
    with pytest.raises(OSError, match=r"truncated|cannot load|broken"):
        open_rgb(header_only(legal, 90, 90))


def test_image_over_pillows_own_limit_is_oversized(tmp_path: Path) -> None:
    path = header_only(tmp_path / "a.png", 20_000, 20_000)
    problem, detail = check_image(path, max_pixels=LIMIT) or ("", "")
    assert problem == "oversized" and "400000000 pixels" in detail
    with pytest.raises(UserError, match="400000000 pixels"):
        open_rgb(path, LIMIT)


def test_ignored_image_warnings_are_those_of_pillow(tmp_path: Path) -> None:
    """Between the limits Pillow warns, and a pool may well allow such an image."""
    path = header_only(tmp_path / "a.png", 10_000, 10_000)
    code = (
        "import sys, warnings; from pathlib import Path\n"
        "from presel_lightning.console import ignore_image_warnings\n"
        "from presel_lightning.data.images import check_image\n"
        "if sys.argv[2] == 'ignored': ignore_image_warnings()\n"
        "warnings.warn('ours')\n"
        "print(check_image(Path(sys.argv[1]), 178956970, 'header'))\n"
    )
    said = {}
    for how in ("ignored", "shown"):
        words = [sys.executable, "-c", code, str(path), how]
        found = subprocess.run(words, capture_output=True, text=True, check=True)
        assert found.stdout == "None\n" and "ours" in found.stderr
        said[how] = "DecompressionBombWarning" in found.stderr
    assert said == {"ignored": False, "shown": True}


def test_check_images_cache_is_valid_until_a_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "good.jpg")
    cut(save(tmp_path / "cut.jpg"))
    names, cache = ["good.jpg", "cut.jpg", "none.jpg"], tmp_path / "work" / "images.sqlite"
    first = check_images(tmp_path, names, cache=cache)
    assert {name: fault[0] for name, fault in first.items()} == {
        "cut.jpg": "truncated",
        "none.jpg": "missing",
    }
    looked: list[str] = []

    def counted_check(
        path: Path, max_pixels: int, verify: images.Verify, pixels: Pixels, *, named: bool
    ) -> Scan:
        looked.append(path.name)
        return scan_image(path, max_pixels, verify, pixels, named=named)

    monkeypatch.setattr(images, "scan_image", counted_check)
    assert check_images(tmp_path, names, cache=cache) == first
    assert looked == ["none.jpg"]  # a missing file may come any time
    save(tmp_path / "cut.jpg")
    save(tmp_path / "none.jpg")
    assert check_images(tmp_path, names, cache=cache) == {}
    assert looked[1:] == ["cut.jpg", "none.jpg"]
    check_images(tmp_path, names, cache=cache, verify="header")
    assert looked[3:] == names


def test_check_images_interrupted_keeps_cached_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [save(tmp_path / f"{i}.png", (4, 4)).name for i in range(5)]
    cache = tmp_path / "images.sqlite"
    monkeypatch.setattr(images, "BLOCK", 2)
    looked: list[str] = []

    def dies(
        path: Path, max_pixels: int, verify: images.Verify, pixels: Pixels, *, named: bool
    ) -> Scan:
        looked.append(path.name)
        if len(looked) == 4:
            raise KeyboardInterrupt
        return scan_image(path, max_pixels, verify, pixels, named=named)

    monkeypatch.setattr(images, "scan_image", dies)
    with pytest.raises(KeyboardInterrupt):
        check_images(tmp_path, names, cache=cache)
    assert check_images(tmp_path, names, cache=cache) == {}
    assert looked[4:] == names[2:]


def test_check_images_with_workers_equals_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [save(tmp_path / f"{i}.png", (4, 4)).name for i in range(6)]
    cut(tmp_path / "3.png")
    os.truncate(tmp_path / "4.png", 0)
    alone = check_images(tmp_path, names)
    assert {name: fault[0] for name, fault in alone.items()} == {
        "3.png": "truncated",
        "4.png": "empty",
    }
    monkeypatch.setattr(images, "FEW", 0)
    assert check_images(tmp_path, names, workers=2) == alone


def test_check_images_killed_worker_error_suggests_fewer_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed between two blocks of images."""
    names = [save(tmp_path / f"{i}.png", (4, 4)).name for i in range(4)]
    monkeypatch.setattr(images, "FEW", 0)
    monkeypatch.setattr(images, "BLOCK", 2)

    def track(items: Iterable[T], what: str, total: int | None) -> Iterator[T]:
        for item in items:
            for worker in active_children():
                worker.kill()
                worker.join()
            yield item

    with pytest.raises(PreselError, match=r"was killed, .* give fewer data\.num_workers"):
        check_images(tmp_path, names, workers=2, track=track)


def test_check_images_progress_counts_every_image(tmp_path: Path) -> None:
    names = [save(tmp_path / f"{i}.png", (4, 4)).name for i in range(3)]
    seen: list[object] = []

    def track(items: Iterable[T], what: str, total: int | None) -> Iterator[T]:
        assert total == 3
        for item in items:
            seen.append(item)
            yield item

    check_images(tmp_path, names, track=track)
    assert len(seen) == 3
