"""A 64-bit hash of what a picture looks like: near for pictures that look alike."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy.fft import dctn

SIDE = 32
"""Pixels of the thumbnail's sides."""
LOW = 8
"""Frequencies of each direction that are kept."""
LEAST_BITS = 16
"""Bits that a picture with any structure has set; a plain area has hardly one."""


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
    width, height = image.size
    factors = max(1, width // SIDE), max(1, height // SIDE)
    small = image.reduce(factors) if factors != (1, 1) else image
    thumb = small.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    waves = dctn(np.asarray(thumb, dtype=np.float32))[:LOW, :LOW].ravel()
    waves = np.round(waves)
    bits = waves > np.median(waves[1:])
    if bits.sum() < LEAST_BITS:
        return 0
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
