"""A 64-bit hash of what a picture looks like: near for pictures that look alike."""

from __future__ import annotations

import numpy as np
from PIL import Image

SIDE = 32
"""Pixels of the thumbnail's sides."""
LOW = 8
"""Frequencies of each direction that are kept."""
LEAST_BITS = 16
"""Bits that a picture with any structure has set; a plain area has hardly one."""
_ANGLES = np.pi / SIDE * np.outer(np.arange(LOW), np.arange(SIDE) + 0.5)
WAVES: np.ndarray = (2 * np.cos(_ANGLES)).astype(np.float32)
"""The lowest frequencies of a DCT-II, (8, 32)."""


def perceptual_hash(image: Image.Image) -> int:
    """Compare the low frequencies of a picture with their median.

    The gray thumbnail of 32 x 32 pixels is transformed by a DCT; of its lowest 8 x 8 frequencies
    each is a bit, set where it is above the median. Another size, quality or brightness changes few
    bits.

    Args:
        image: decoded, of any mode that has pixels.

    Returns:
        The hash; 0 where the picture has no structure.
    """
    gray = image.convert("L")
    width, height = gray.size
    factors = max(1, width // SIDE), max(1, height // SIDE)
    small = gray.reduce(factors) if factors != (1, 1) else gray
    thumb = np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float32)
    waves = np.rint(WAVES @ thumb @ WAVES.T).ravel()  # (64,)
    middle = (LOW * LOW - 1) // 2
    bits = waves > np.partition(waves[1:], middle)[middle]  # the median of 63
    if bits.sum() < LEAST_BITS:
        return 0
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
