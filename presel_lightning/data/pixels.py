"""One RGB picture of any image: as viewers show it, or by LLaVA's plain conversion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from PIL import ExifTags, Image

Pixels = Literal["as_shown", "published"]

Turn = Image.Transpose

TURNS = {
    2: Turn.FLIP_LEFT_RIGHT,
    3: Turn.ROTATE_180,
    4: Turn.FLIP_TOP_BOTTOM,
    5: Turn.TRANSPOSE,
    6: Turn.ROTATE_270,
    7: Turn.TRANSVERSE,
    8: Turn.ROTATE_90,
}
"""What undoes each EXIF orientation."""

NOTES = frozenset(["exif", "xmp", "Raw profile type exif", "XML:com.adobe.xmp"])
"""Keys of `Image.info` that Pillow reads an orientation from; a TIFF has it in its tags, and a PNG may
have it behind its pixels."""
SIDEWAYS = (5, 6, 7, 8)
"""Orientations that swap width and height."""

WHITE = (255, 255, 255, 255)

ORIENTATION, TRANSPARENCY, DEPTH = "orientation", "transparency", "depth"
CHANGED = (ORIENTATION, TRANSPARENCY, DEPTH)
"""Kinds of images that `as_shown` reads otherwise than `published`."""
FRAMES = "frames"
KINDS = (*CHANGED, FRAMES)
"""Those, and images of several frames, of which both read the first."""

# tags of a TIFF
BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339
MIN_IS_WHITE, SIGNED = 0, 2


def rgb_of(image: Image.Image, pixels: Pixels = "as_shown") -> Image.Image:
    """Make the RGB picture that models and people look at.

    `as_shown`: the EXIF orientation is applied; what is transparent lies on white; gray of more
    than 8 bits is scaled from the full range of its type, of floating-point numbers from 0 to 1, or
    from the file's own least and greatest value where some lie outside. Anything else is converted
    by Pillow.

    `published`: `convert("RGB")` and nothing else, as LLaVA does: no orientation, transparent
    places in whatever color they have, gray of more than 8 bits cut off at 255.

    Neither leaves a note on the picture, of a transparent color, an orientation or a color profile,
    by which an image processor or a viewer would change its pixels again.

    Args:
        image: of any mode; only its first frame is read.
        pixels: which rule.
    """
    rgb = image.convert("RGB") if pixels == "published" else _as_shown(image)
    rgb.info = {}
    return rgb


def shown_size(image: Image.Image, pixels: Pixels = "as_shown") -> tuple[int, int]:
    """Width and height of the picture that `rgb_of` makes of an opened image; nothing is decoded."""
    width, height = image.size
    lies = image.format != "TIFF" and _orientation(image) in SIDEWAYS  # a TIFF gives them turned
    return (height, width) if lies and pixels == "as_shown" else (width, height)


def kinds_of(image: Image.Image, *, decode: bool = True) -> str:
    """What of an image a plain conversion does not show: kinds of `KINDS`, separated by commas.

    Args:
        image: opened, not decoded yet: a TIFF forgets its orientation when it is.
        decode: whether to decode it, so that a transparent kind counts only if a pixel is so.
    """
    turned = _orientation(image) in TURNS
    if decode:
        image.load()
    found = {
        ORIENTATION: turned,
        TRANSPARENCY: _is_transparent(image, decode),
        DEPTH: image.mode.startswith(("I", "F")),
        FRAMES: _has_frames(image),
    }
    return ",".join(kind for kind in KINDS if found[kind])


def counted(kinds: str) -> list[str]:
    """What an image with these kinds counts as: each of them, and `changed` once."""
    found = kinds.split(",") if kinds else []
    return [*found, "changed"] if set(found) & set(CHANGED) else found


def summary(counts: Mapping[str, int], pixels: Pixels) -> list[str]:
    """Lines on the images that a plain conversion does not show as viewers do.

    Args:
        counts: of `counted`, over the pool.
        pixels: which rule reads them.
    """
    lines = []
    if n := counts.get("changed"):
        kinds = ", ".join(f"{counts[kind]} {kind}" for kind in CHANGED if counts.get(kind))
        how = "as viewers show them" if pixels == "as_shown" else "not as viewers show them"
        lines.append(f"{n} images ({kinds}) are read {how}: data.pixels {pixels}")
    if n := counts.get(FRAMES):
        lines.append(f"{n} images of several frames: the first is read")
    return lines


def _is_transparent(image: Image.Image, decoded: bool) -> bool:
    """Whether a pixel of an image is transparent; where it is not decoded, whether one may be."""
    if not decoded or not image.has_transparency_data or image.mode.startswith(("I", "F")):
        return bool(image.has_transparency_data)
    image = image.convert("LA") if image.mode == "La" else image
    alpha = np.asarray(image.convert("RGBA").getchannel("A"))  # (H, W)
    return bool((alpha < 255).any())


def _has_frames(image: Image.Image) -> bool:
    """Whether an image has pictures behind its first one; those of a camera's MPO are previews."""
    if image.format == "MPO":
        return False
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # noqa: BLE001 - a broken second picture is no fault of the first
        return False


def _as_shown(image: Image.Image) -> Image.Image:
    image.load()  # a TIFF turns itself here, and forgets its orientation
    turn = TURNS.get(_orientation(image))
    if image.mode.startswith(("I", "F")):
        shown = Image.fromarray(_gray(image)).convert("RGB")
    elif image.has_transparency_data:
        behind = Image.new("RGBA", image.size, WHITE)
        image = image.convert("LA") if image.mode == "La" else image  # the one way out of it
        shown = Image.alpha_composite(behind, image.convert("RGBA")).convert("RGB")
    else:
        shown = image.convert("RGB")
    return shown if turn is None else shown.transpose(turn)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 where there is none; a broken EXIF block is none, as in viewers."""
    if image.format not in ("TIFF", "PNG") and NOTES.isdisjoint(image.info):
        return 1  # most images; a tenth of the time of a small one goes into asking further
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 - Pillow raises whatever it likes on broken blocks
        return 1
    return found if isinstance(found, int) else 1


def _gray(image: Image.Image) -> np.ndarray:
    """Gray values (H, W) of an image of integers or floating-point numbers, as bytes."""
    values = np.asarray(image, dtype=np.float32)  # (H, W)
    low, high = _range(image, values)
    known = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    scaled = np.rint((known - low) * (255 / max(high - low, 1e-12)))
    shown: np.ndarray = scaled.clip(0, 255).astype(np.uint8)
    tags = getattr(image, "tag_v2", {})
    if tags.get(PHOTOMETRIC) == MIN_IS_WHITE:
        shown = 255 - shown
    if isinstance(clear := image.info.get("transparency"), int):
        shown[values == clear] = 255
    return shown


def _range(image: Image.Image, values: np.ndarray) -> tuple[float, float]:
    """What is shown as black and as white."""
    if image.mode == "F":
        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
    tags = getattr(image, "tag_v2", {})
    bits = int(tags.get(BITS, (16,))[0])  # PNG and PGM hold 16
    least = -(2 ** (bits - 1)) if tags.get(SAMPLE_FORMAT, (1,))[0] == SIGNED else 0
    return float(least), float(least + 2**bits - 1)
