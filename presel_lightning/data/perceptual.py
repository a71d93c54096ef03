"""A 64-bit hash of what a picture looks like: near for pictures that look alike."""

from __future__ import annotations

from collections.abc import Sequence

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


def thumbnail(image: Image.Image) -> bytes:
    """Shrink a picture to 32 x 32 gray values.

    Args:
        image: decoded, of any mode that has pixels.

    Returns:
        1,024 bytes, row by row.
    """
    gray = image.convert("L")
    width, height = gray.size
    factors = max(1, width // SIDE), max(1, height // SIDE)
    small = gray.reduce(factors) if factors != (1, 1) else gray
    return small.resize((SIDE, SIDE), Image.Resampling.BOX).tobytes()


def perceptual_hashes(thumbnails: Sequence[bytes]) -> list[int]:
    """Compare the low frequencies of pictures with their median.

    Each thumbnail is transformed by a DCT; of its lowest 8 x 8 frequencies each is a bit, set where
    it is above the median. Another size, quality or brightness changes few bits.

    Args:
        thumbnails: of `thumbnail`.

    Returns:
        A hash of each; 0 where the picture has no structure.
    """
    gray = np.frombuffer(b"".join(thumbnails), np.uint8).reshape(-1, SIDE, SIDE)
    waves = np.rint(WAVES @ gray.astype(np.float32) @ WAVES.T).reshape(-1, LOW * LOW)
    middle = (LOW * LOW - 1) // 2
    median = np.partition(waves[:, 1:], middle)[:, middle, None]  # of 63
    bits = waves > median  # (N, 64)
    plain = bits.sum(1) < LEAST_BITS
    hashes = np.packbits(bits, axis=1).view(">u8").ravel()
    found: list[int] = np.where(plain, 0, hashes).tolist()
    return found
