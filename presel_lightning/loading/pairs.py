"""Vectors of image-text pairs as batches: weighted ones to train a probe on, blocks to read."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from presel_lightning.loading.blocks import BlockDataModule
from presel_lightning.loading.samplers import (
    GlobalBatchSampler,
    ResumableLoader,
    Row,
    even_blocks,
)


class PairVectors(Dataset[Row]):
    """Pairs by their vectors.

    Args:
        image: (N, D) vectors of the images.
        text: (N, D) vectors of the texts.
        digest: (N,) 16 bytes that name the content of each image file.
        weights: (N,) weight of each pair in the loss; None for 1.
    """

    def __init__(
        self,
        image: np.ndarray,
        text: np.ndarray,
        digest: np.ndarray,
        weights: np.ndarray | None = None,
    ) -> None:
        self.image, self.text = image, text
        self.picture = pictures(digest)
        self.weights = np.ones(len(image)) if weights is None else weights

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.image)

    def __getitem__(self, place: Row) -> Row:
        """Row and weight; `collate` reads the vectors of a batch at once."""
        return place

    def collate(self, places: list[Row]) -> dict[str, Any]:
        """Vectors (B, D), digests of the pictures (B, 2), and weights (B,)."""
        rows = np.array([row for row, _ in places])
        given = np.array([weight for _, weight in places]) * self.weights[rows]
        return {
            "first": int(rows[0]),
            "image": torch.from_numpy(self.image[rows].astype(np.float32)),
            "text": torch.from_numpy(self.text[rows].astype(np.float32)),
            "picture": torch.from_numpy(self.picture[rows]),
            "weight": torch.from_numpy(given.astype(np.float32)),
        }


def pictures(digest: np.ndarray) -> np.ndarray:
    """Digests (N,) of 16 bytes as two integers each, (N, 2)."""
    return np.ascontiguousarray(digest).view(np.int64).reshape(-1, 2)


class PairDataModule(BlockDataModule):
    """Serves the vectors of pairs to a fit, or block by block to a pass.

    Every process of a fit gets the whole of each batch: see `TwoTower`.

    Args:
        pairs: the vectors.
        batch_size: pairs of a training step.
        block_size: pairs of a block of a pass.
        seed: of the order.
        chances: (N,) draw each epoch with replacement in proportion to these.
    """

    def __init__(
        self,
        pairs: PairVectors,
        batch_size: int = 32,
        block_size: int = 32,
        seed: int = 0,
        chances: np.ndarray | None = None,
    ) -> None:
        super().__init__(num_workers=0)
        # a rank may have no block of a short pass
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.pairs, self.batch_size, self.seed, self.chances = pairs, batch_size, seed, chances
        self.hold(pairs, even_blocks(len(pairs), block_size))

    def passes(self, world: int) -> int:
        """Forward passes of a training step: one, on any number of devices."""
        return 1

    def train_dataloader(self) -> DataLoader[Any]:
        """Return every global batch, from where a continued fit was."""
        lengths = np.ones(len(self.pairs))
        sampler = GlobalBatchSampler(
            lengths, self.batch_size, self.seed, rank=0, world=1, chances=self.chances
        )
        options = self.loader_options(self.pairs)
        return self.continued(ResumableLoader(self.pairs, batch_sampler=sampler, **options))
