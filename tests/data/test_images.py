from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from PIL import Image

from presel_lightning.data import images
from presel_lightning.data.images import (
    OutsideRoot,
    check_image,
    check_images,
    open_rgb,
    resolve,
)

T = TypeVar("T")


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
        resolve(root, relative)
    assert check_images(root, [relative])[relative][0] == "outside_root"


def test_resolve_sibling_with_root_prefix_raises(tmp_path: Path) -> None:
    save(tmp_path / "root2" / "x.jpg")
    (tmp_path / "root").mkdir()
    with pytest.raises(OutsideRoot):
        resolve(tmp_path / "root", "../root2/x.jpg")


def test_resolve_accepts_links_inside_the_root(tmp_path: Path) -> None:
    real = save(tmp_path / "root" / "a" / "x.jpg")
    (tmp_path / "root" / "b").symlink_to(real.parent)
    (tmp_path / "alias").symlink_to(tmp_path / "root")
    for relative in ("a/x.jpg", "b/x.jpg", "a/../b/./x.jpg"):
        assert resolve(tmp_path / "alias", relative) == real.resolve()


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


def test_pillow_pixel_limit_is_restored_without_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_image(path) is None
        open_rgb(path)
    assert Image.MAX_IMAGE_PIXELS == 100


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

    def counted_check(path: Path, max_pixels: int, verify: images.Verify) -> tuple[str, str] | None:
        looked.append(path.name)
        return check_image(path, max_pixels, verify)

    monkeypatch.setattr(images, "check_image", counted_check)
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

    def dies(path: Path, max_pixels: int, verify: images.Verify) -> tuple[str, str] | None:
        looked.append(path.name)
        if len(looked) == 4:
            raise KeyboardInterrupt
        return check_image(path, max_pixels, verify)

    monkeypatch.setattr(images, "check_image", dies)
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
