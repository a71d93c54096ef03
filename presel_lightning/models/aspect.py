"""How an image becomes the square that the vision tower of a LLaVA-1.5 reads."""

from __future__ import annotations

from typing import Any, Literal

from transformers import LlavaImageProcessorPil

Aspect = Literal["pad", "square"]
"""`pad` puts the image on a square of the mean color; `square` resizes the shorter side and cuts a
square out of the middle, as PreSel's published loss script does."""


def with_aspect(own: Any, side: int, aspect: Aspect) -> LlavaImageProcessorPil:  # noqa: ANN401
    """Make an image processor with the resampling and colors of another.

    Args:
        own: the other one, of a CLIP or a LLaVA.
        side: pixels of the square.
        aspect: how the square is made.
    """
    return LlavaImageProcessorPil(
        do_pad=aspect == "pad",
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        resample=own.resample,
        image_mean=own.image_mean,
        image_std=own.image_std,
    )
