"""One picture in many files: what models read of each, beside an 8-bit twin or literal numbers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin

from presel_lightning.data.formats import open_image
from presel_lightning.data.images import check_image, open_rgb
from presel_lightning.data.pixels import kinds_of, rgb_of, summary
from presel_lightning.loading.datasets import ImageSet
from presel_lightning.models import load_processor
from presel_lightning.models.aspect import with_aspect

Array = np.ndarray

TAGS = {"bits": 258, "photometric": 262, "sample_format": 339}
ORIENTATION = 274
EXAMPLES = int(os.environ.get("PIXEL_EXAMPLES", "150"))

UPRIGHT = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 14
"""(H, W, 3): six pixels, all different."""

STORED: dict[int, Array] = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.transpose(1, 0, 2),
    6: UPRIGHT.transpose(1, 0, 2)[::-1],
    7: UPRIGHT.transpose(1, 0, 2)[::-1, ::-1],
    8: UPRIGHT.transpose(1, 0, 2)[:, ::-1],
}
"""The same picture as a camera stores it under each EXIF orientation: of 6, row 0 is the right
side, from top to bottom, and the last row the left one."""


def as_array(path: Path, **how: Any) -> Array:
    assert check_image(path, **how) is None
    image = open_rgb(path, **how)
    assert image.mode == "RGB" and "transparency" not in image.info
    return np.asarray(image)


def gray(size: tuple[int, int] = (16, 16)) -> Array:
    values: Array = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    values.flat[:2] = 0, 255
    return values


def three(values: Array) -> Array:
    """Gray (H, W) as RGB."""
    return np.repeat(values[..., None], 3, axis=-1)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("ending", ["png", "tiff", "webp"])
def test_open_rgb_as_shown_applies_the_exif_orientation(
    tmp_path: Path, ending: str, orientation: int
) -> None:
    path = tmp_path / f"a.{ending}"
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    stored.save(path, exif=exif, lossless=True)
    assert np.array_equal(as_array(path), UPRIGHT)
    if ending != "tiff":  # which Pillow turns itself
        assert np.array_equal(as_array(path, pixels="published"), STORED[orientation])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_open_rgb_broken_exif_block_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(UPRIGHT).save(path, exif=b"Exif\0\0II*\0\xff\xff\xff\xff", quality=95)
    assert np.array_equal(as_array(path), as_array(path, pixels="published"))


def chart(mode: str) -> tuple[Image.Image, Image.Image]:
    """Black bars on a transparent ground of black, and what people see of it."""
    rng = np.random.default_rng(1)
    ink = rng.random((12, 20)) < 0.4
    alpha = np.where(ink, 255, 0).astype(np.uint8)
    shown = Image.fromarray(three(np.where(ink, 0, 255).astype(np.uint8)))
    black = np.zeros((12, 20), np.uint8)
    if mode == "RGBA":
        return Image.fromarray(np.dstack([three(black), alpha])), shown
    if mode == "LA":
        return Image.fromarray(np.dstack([black, alpha])), shown
    indexed = Image.fromarray(np.where(ink, 1, 0).astype(np.uint8)).convert("P")
    indexed.putpalette([255, 0, 0, 0, 0, 0] + [0, 0, 0] * 254)  # index 0 is red, and transparent
    indexed.info["transparency"] = 0
    return indexed, shown


@pytest.mark.parametrize(
    ("mode", "ending"),
    [
        ("RGBA", "png"),
        ("LA", "png"),
        ("P", "png"),
        ("P", "gif"),
        ("RGBA", "webp"),
        ("RGBA", "tiff"),
    ],
)
def test_open_rgb_as_shown_composes_transparency_on_white(
    tmp_path: Path, mode: str, ending: str
) -> None:
    image, shown = chart(mode)
    path = tmp_path / f"a.{ending}"
    image.save(path, lossless=True, exact=True)
    assert np.array_equal(as_array(path), np.asarray(shown))
    ground = np.asarray(shown)[..., 0] == 255
    published = as_array(path, pixels="published")[ground]
    assert (published == ([255, 0, 0] if mode == "P" else [0, 0, 0])).all()


def test_open_rgb_half_transparent_pixels_are_mixed_with_white(tmp_path: Path) -> None:
    pixels = np.array([[[200, 100, 0, 0], [200, 100, 0, 51], [200, 100, 0, 255]]], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert as_array(tmp_path / "a.png").tolist() == [[[255] * 3, [244, 224, 204], [200, 100, 0]]]


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_open_rgb_transparent_color_of_a_png_is_white(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(three(np.array([[0, 255]], np.uint8))).convert(mode)
    image.save(tmp_path / "a.png", transparency=(0, 0, 0) if mode == "RGB" else 0)
    assert as_array(tmp_path / "a.png").tolist() == [[[255] * 3, [255] * 3]]
    assert as_array(tmp_path / "a.png", pixels="published").tolist() == [[[0] * 3, [255] * 3]]


@pytest.mark.parametrize("size", [16, 224])
def test_published_palette_keeps_its_color_through_an_image_processor(
    tmp_path: Path, size: int
) -> None:
    """Transformers' own conversion would put what is noted as transparent on white."""
    image, _ = chart("P")
    image.save(tmp_path / "a.png")
    processor = load_processor("quickstart").image_processor
    plain = Image.open(tmp_path / "a.png").convert("RGB")
    assert plain.info["transparency"] is not None, "noted by Pillow"
    expected = processor(images=Image.fromarray(np.asarray(plain)), return_tensors="pt")
    found = processor(images=open_rgb(tmp_path / "a.png", pixels="published"), return_tensors="pt")
    assert np.array_equal(found["pixel_values"], expected["pixel_values"])
    square = with_aspect(processor, size, "square")
    for pixels in ("published", "as_shown"):
        crop = ImageSet([tmp_path / "a.png"], square, pixels=pixels)[0, 1.0]["crop"]
        kept = open_rgb(tmp_path / "a.png", pixels=pixels)
        twin = Image.fromarray(np.asarray(kept))
        expected = square(images=twin, do_rescale=False, do_normalize=False, return_tensors="pt")
        assert np.array_equal(crop, expected["pixel_values"][0])


def tiff(path: Path, values: Array, mode: str, **tags: int) -> Path:
    """A gray TIFF of one strip, with tags as a program that knows better writes them."""
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for name, value in tags.items():
        info[TAGS[name]] = value
    Image.fromarray(values).convert(mode).save(path, tiffinfo=info)
    return path


@pytest.mark.parametrize("ending", ["png", "tiff", "pgm"])
def test_open_rgb_16_bit_gray_equals_its_8_bit_twin(tmp_path: Path, ending: str) -> None:
    values = gray()
    Image.fromarray(values.astype(np.uint16) * 257).save(tmp_path / f"a.{ending}")
    Image.fromarray(values).save(tmp_path / "twin.png")
    found = as_array(tmp_path / f"a.{ending}")
    assert np.array_equal(found, as_array(tmp_path / "twin.png"))
    assert np.array_equal(found, three(values))


def test_open_rgb_16_bit_gray_literal_numbers(tmp_path: Path) -> None:
    """Rounded to the next of 255 steps; `published` cuts off at 255, as Pillow does."""
    values = np.array([[0, 128, 129, 385, 386, 32768, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert as_array(tmp_path / "a.png")[0, :, 0].tolist() == [0, 0, 1, 1, 2, 128, 255]
    published = as_array(tmp_path / "a.png", pixels="published")[0, :, 0].tolist()
    assert published == [0, 128, 129, 255, 255, 255, 255]


def test_open_rgb_transparent_16_bit_gray_is_white(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 257, 65535]], np.uint16))
    image.save(tmp_path / "a.png", transparency=257)
    assert as_array(tmp_path / "a.png")[0, :, 0].tolist() == [0, 255, 255]


def test_open_rgb_12_bit_gray_is_scaled_from_its_own_range(tmp_path: Path) -> None:
    """Two pixels in three bytes, as a scanner writes them."""
    values = [0, 16, 2048, 4095]
    packed = bytes(
        byte
        for a, b in zip(values[::2], values[1::2], strict=True)
        for byte in (a >> 4, (a & 15) << 4 | b >> 8, b & 255)
    )
    info = TiffImagePlugin.ImageFileDirectory_v2()
    facts = {256: 4, 257: 1, 258: 12, 259: 1, 262: 1, 273: 0, 277: 1, 278: 1, 279: len(packed)}
    for tag, value in facts.items():
        info[tag] = value
    path = tmp_path / "a.tiff"
    # what 273 names, the place of the pixels, is counted from the end of the tags
    path.write_bytes(b"II*\0\x08\0\0\0" + info.tobytes(8) + packed)
    assert as_array(path)[0, :, 0].tolist() == [0, 1, 128, 255]


def test_open_rgb_min_is_white_gray_is_inverted(tmp_path: Path) -> None:
    values = np.array([[0, 65535, 257]], np.uint16)
    path = tiff(tmp_path / "a.tiff", values, "I;16", photometric=0)
    assert as_array(path)[0, :, 0].tolist() == [255, 0, 254]


def test_open_rgb_signed_integers_use_the_full_range_of_their_type(tmp_path: Path) -> None:
    values = np.array([[-(2**31), 0, 2**31 - 1]], np.int32)
    Image.fromarray(values).save(tmp_path / "a.tiff")
    assert as_array(tmp_path / "a.tiff")[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.0, 0.25, 1.0], [0, 64, 255]),
        ([0.1, 0.2, 0.5], [26, 51, 128]),
        ([-1.0, 0.0, 3.0], [0, 64, 255]),
        ([10.0, 20.0, 30.0], [0, 128, 255]),
        ([7.0, 7.0, 7.0], [0, 0, 0]),
        ([float("nan"), 0.0, 1.0], [0, 0, 255]),
        ([float("inf"), 0.0, 2.0], [255, 0, 255]),
    ],
)
def test_open_rgb_float_gray_is_scaled_from_0_to_1_or_its_own_range(
    tmp_path: Path, values: list[float], shown: list[int]
) -> None:
    Image.fromarray(np.array([values], np.float32)).save(tmp_path / "a.tiff")
    assert as_array(tmp_path / "a.tiff")[0, :, 0].tolist() == shown


@given(
    mode=st.sampled_from(["1", "L", "P", "LA", "PA", "La", "RGB", "RGBA", "RGBX", "RGBa", "CMYK"]),
    seed=st.integers(0, 99),
)
def test_rgb_of_opaque_image_of_any_mode_is_the_plain_conversion(mode: str, seed: int) -> None:
    """The two rules differ only where there is something to show otherwise."""
    rng = np.random.default_rng(seed)
    noise = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    image = noise.convert("RGBA").convert(mode) if mode == "RGBa" else noise
    image = noise.convert("LA").convert(mode) if mode == "La" else image.convert(mode)
    plain = np.asarray(image.convert("RGB") if mode != "La" else noise.convert("L").convert("RGB"))
    assert np.array_equal(np.asarray(rgb_of(image, "as_shown")), plain)
    if mode != "La":
        assert np.array_equal(np.asarray(rgb_of(image, "published")), plain)


def written(path: Path, mode: str, seed: int, orientation: int | None) -> Image.Image | None:
    """A picture of noise that Pillow writes in some mode and form; None where it cannot."""
    rng = np.random.default_rng(seed)
    noise = Image.fromarray(rng.integers(0, 256, (5, 7, 4), dtype=np.uint8))
    if mode.startswith(("I", "F")):
        kinds = {"I": np.int32, "F": np.float32}
        image = Image.fromarray(rng.integers(0, 1 << 16, (5, 7)).astype(kinds.get(mode, np.uint16)))
    else:
        plain = noise if mode in ("RGBA", "LA") else noise.convert("RGB")
        image = plain.convert(mode)
    exif = Image.Exif()
    if orientation is not None:
        exif[ORIENTATION] = orientation
    try:
        image.save(path, exif=exif, lossless=True, exact=True, quality=100)
    except (OSError, ValueError, TypeError, SystemError):
        return None
    return image


def by_hand(stored: Image.Image) -> Array:
    """What a viewer shows of decoded pixels that lie upright; only a TIFF holds 32 bits."""
    if stored.mode.startswith(("I", "F")):
        values = np.asarray(stored).astype(np.float64)
        signed = stored.mode == "I" and stored.format == "TIFF"
        low, high = (-(2**31), 2**31 - 1) if signed else (0, 65535)
        if stored.mode == "F":
            low, high = values.min(), values.max()
        return three(np.rint((values - low) / (high - low) * 255).astype(np.uint8))
    rgba = np.asarray(stored.convert("RGBA")).astype(np.float64)
    alpha = rgba[..., 3:] / 255
    return np.asarray(rgba[..., :3] * alpha + 255 * (1 - alpha))


@settings(deadline=None, max_examples=EXAMPLES)
@given(
    mode=st.sampled_from(
        ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "F"]
    ),
    ending=st.sampled_from(
        ["png", "jpg", "tiff", "webp", "gif", "bmp", "ppm", "pgm", "pbm", "pfm", "avif", "mpo"]
    ),
    orientation=st.sampled_from([None, *range(1, 9)]),
    seed=st.integers(0, 9),
)
def test_image_of_any_mode_form_and_orientation_is_as_shown_or_a_problem(
    tmp_path_factory: pytest.TempPathFactory,
    mode: str,
    ending: str,
    orientation: int | None,
    seed: int,
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any.{ending}"
    path.unlink(missing_ok=True)
    if written(path, mode, seed, orientation) is None or check_image(path) is not None:
        return  # a problem of the pool, by its name
    upright = tmp_path_factory.getbasetemp() / f"upright.{ending}"
    assert written(upright, mode, seed, None) is not None
    with Image.open(upright) as stored:
        stored.load()
        seen = by_hand(stored)
    with Image.open(path) as opened:  # formats without EXIF write none
        kept = opened.getexif().get(ORIENTATION, 1)
    shown = as_array(path).astype(np.float64)
    assert shown.shape == turned(seen, kept).shape
    assert np.abs(shown - turned(seen, kept)).max() <= 1


def turned(array: Array, orientation: int) -> Array:
    """Stored pixels (H, W, 3) as an EXIF orientation has them shown."""
    if orientation >= 5:
        array = array.transpose(1, 0, 2)
    mirrored = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}
    rows, columns = mirrored.get(orientation, (1, 1))
    return array[::rows, ::columns]


def test_kinds_of_images_by_what_a_plain_conversion_does_not_show(tmp_path: Path) -> None:
    """Opaque pixels that might be transparent, and the previews in a camera's MPO, are nothing."""
    frames = [Image.fromarray(three(gray() // (n + 1))) for n in range(2)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=frames[1:])
    pages = [frame.copy() for frame in frames]  # Pillow keeps settings of the last save
    pages[0].save(tmp_path / "pages.tiff", save_all=True, append_images=pages[1:])
    opaque = np.dstack([three(gray()), np.full((16, 16), 255, np.uint8)])
    Image.fromarray(opaque).save(tmp_path / "opaque.png")
    chart("RGBA")[0].save(tmp_path / "chart.png")
    frames[0].convert("CMYK").save(tmp_path / "print.jpg")
    found = {}
    for path in tmp_path.iterdir():
        with open_image(path) as image:
            found[path.name] = kinds_of(image)
        assert np.asarray(open_rgb(path)).std() > 0
    assert found == {
        "a.gif": "frames",
        "a.jpg": "",
        "pages.tiff": "frames",
        "opaque.png": "",
        "chart.png": "transparency",
        "print.jpg": "",
    }
    assert np.array_equal(as_array(tmp_path / "pages.tiff"), np.asarray(frames[0]))
    assert summary({"changed": 1, "transparency": 1, "frames": 2}, "as_shown") == [
        "1 images (1 transparency) are read as viewers show them: data.pixels as_shown",
        "2 images of several frames: the first is read",
    ]
