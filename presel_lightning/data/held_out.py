"""Pictures of a pool that are held out to be tested on: the same ones whatever the seed."""

from __future__ import annotations

import numpy as np

from presel_lightning.data.pool import Pool


def held_out(pool: Pool, share: float) -> np.ndarray:
    """Mark a fraction of the pool by whole pictures, (N,) bool.

    Pictures go in the order of the digests of their files, which is a random one, so that all samples
    of a picture are on one side, and every seed, budget and process holds out the same.

    Args:
        pool: every sample.
        share: fraction of the samples; the last picture may lead past it.
    """
    _, place = np.unique(pool.image_digest, return_inverse=True)
    counts = np.bincount(place.reshape(-1))
    before = np.cumsum(counts) - counts
    marked: np.ndarray = before[place.reshape(-1)] < round(share * len(pool))
    return marked
