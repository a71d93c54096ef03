"""Small pictures of images, for people to look at."""

from __future__ import annotations

from PIL import Image

from presel_lightning.data.formats import open_image
from presel_lightning.data.images import check_image
from presel_lightning.data.pixels import rgb_of
from presel_lightning.data.resolver import OutsideRoot, Resolver


def small(resolver: Resolver, image: str, side: int) -> Image.Image | None:
    """Downscale an image to at most `side` pixels on either side; None where it cannot be read."""
    try:
        path = resolver(image)
    except OutsideRoot:
        return None
    if check_image(path, verify="header") is not None:
        return None
    try:
        with open_image(path) as opened:
            opened.draft("RGB", (side, side))  # a JPEG is decoded no larger than needed
            picture = rgb_of(opened)  # people look at it, whatever data.pixels is
        picture.thumbnail((side, side))  # no side becomes 0, however long the other
    except Exception:  # noqa: BLE001 - decoders raise any error; the caller continues
        return None
    return picture
