from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.fft import dctn

from presel_lightning.data.perceptual import perceptual_hashes, thumbnail


def hash_of(image: Image.Image) -> int:
    """Hash one picture, as the second of three."""
    others = [bytes(32 * 32), bytes(range(256)) * 4]
    return perceptual_hashes([others[0], thumbnail(image), others[1]])[1]


@given(st.integers(0, 10**6), st.integers(32, 63), st.integers(32, 63))
def test_perceptual_hash_compares_low_frequencies_with_their_median(
    seed: int, width: int, height: int
) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4), dtype=np.uint8)
    image = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
    thumb = np.asarray(image.resize((32, 32), Image.Resampling.BOX), dtype=float)
    waves = dctn(thumb)[:8, :8].ravel()
    found = np.array([int(bit) for bit in f"{hash_of(image):064b}"], dtype=bool)
    distance = waves - np.median(waves[1:])
    clear = np.abs(distance) > 2  # frequencies are rounded to whole numbers
    assert np.array_equal(found[clear], distance[clear] > 0) and clear.sum() > 30


def test_perceptual_hash_of_the_same_picture_in_another_size_is_near() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    large = Image.fromarray(noise).resize((640, 480), Image.Resampling.BICUBIC)
    small = large.resize((320, 240), Image.Resampling.LANCZOS)
    assert (hash_of(large) ^ hash_of(small)).bit_count() <= 4
    assert hash_of(Image.new("RGB", (64, 64), (9, 9, 9))) == 0
