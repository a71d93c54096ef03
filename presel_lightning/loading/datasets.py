"""Rows of the pool as datasets: to train on, to score with and without the question, to embed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torch.utils.data import Dataset

from presel_lightning.data.images import MAX_PIXELS, open_rgb
from presel_lightning.data.pixels import Pixels
from presel_lightning.data.pool import Pool
from presel_lightning.data.texts import Texts
from presel_lightning.loading.encoder import SampleEncoder
from presel_lightning.loading.samplers import Row


class TrainSet(Dataset[dict[str, Any]]):
    """Instructions to train on.

    Args:
        pool: every sample.
        rows: (N,) which of them.
        encoder: of the model that is trained.
        texts: text-only records, which come after these.
        weights: (N,) weight of each row in the loss; 1 where not given, as of every text.
        max_pixels: limit on an image, that of the pool.
        pixels: how an image is read, that of the pool.
    """

    def __init__(
        self,
        pool: Pool,
        rows: np.ndarray,
        encoder: SampleEncoder,
        texts: Texts | None = None,
        weights: np.ndarray | None = None,
        max_pixels: int = MAX_PIXELS,
        pixels: Pixels = "as_shown",
    ) -> None:
        self.pool, self.rows, self.encoder, self.texts = pool, rows, encoder, texts
        self.weights = np.ones(len(rows)) if weights is None else weights
        self.max_pixels, self.pixels = max_pixels, pixels

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.rows) + len(self.texts or ())

    def __getitem__(self, place: Row) -> dict[str, Any]:
        """One conversation with its images, if it has any, and weight."""
        index, weight = place
        if self.texts is not None and index >= len(self.rows):
            turns = self.texts.turns(index - len(self.rows))
            return {**self.encoder.sample(turns, None), "weight": weight}
        row, weight = int(self.rows[index]), weight * float(self.weights[index])
        sample = self.encoder.sample(self.pool.sample(row).turns, self._images(row))
        return {**sample, "weight": weight}

    def _images(self, row: int) -> list[Image]:
        """Images of a row of the pool, decoded."""
        paths = self.pool.image_paths(row)
        return [open_rgb(path, self.max_pixels, self.pixels) for path in paths]

    def task(self, index: int) -> str:
        """Task of a sample, for messages."""
        return "text-only" if index >= len(self.rows) else str(self.pool.task[self.rows[index]])

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Inputs of the model, labels (B, L) and weights (B,)."""
        weights = torch.tensor([sample["weight"] for sample in samples])
        return {**self.encoder.batch(samples), "weight": weights}


class PairSet(TrainSet):
    """Each sample twice: with its question and without, for the paired losses."""

    def lengths(self) -> np.ndarray:
        """Tokens that each sample takes: what is shared once, and both continuations."""
        pool = self.pool
        sizes = (
            self.encoder.pair_length(pool.sample(row).turns, pool.image_paths(row))
            for row in map(int, self.rows)
        )
        return np.fromiter(sizes, np.int64, len(self))

    def __getitem__(self, place: Row) -> dict[str, Any]:
        """The images of a sample, decoded once, with both inputs."""
        index, _ = place
        row = int(self.rows[index])
        turns, images = self.pool.sample(row).turns, self._images(row)
        return {"index": index, **self.encoder.pair(turns, images)}

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Two labelled batches of the same images; see `SampleEncoder.pair_batch`."""
        return {"first": samples[0]["index"], **self.encoder.pair_batch(samples)}


class ImageSet(Dataset[dict[str, Any]]):
    """Images to embed, each once.

    Args:
        paths: (U,) distinct image files.
        image_processor: of the encoder.
        max_pixels: limit on an image, that of the pool.
        pixels: how an image is read, that of the pool.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        image_processor: Any,  # noqa: ANN401 - transformers has one class a model
        max_pixels: int = MAX_PIXELS,
        pixels: Pixels = "as_shown",
    ) -> None:
        self.paths, self.image_processor = paths, image_processor
        self.max_pixels, self.pixels = max_pixels, pixels

    def __len__(self) -> int:
        """Number of images."""
        return len(self.paths)

    def __getitem__(self, place: Row) -> dict[str, Any]:
        """One image, resized and cropped: (3, H, W), uint8."""
        index, _ = place
        crop = self.image_processor(
            images=open_rgb(self.paths[index], self.max_pixels, self.pixels),
            do_rescale=False,
            do_normalize=False,
            return_tensors="pt",
        )
        return {"index": index, "crop": torch.as_tensor(crop["pixel_values"][0])}

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Crops (B, 3, H, W), with the scale and shift (3,) that a device normalises them by."""
        scale, shift = normalisation(self.image_processor)
        crops = torch.stack([sample["crop"] for sample in samples])
        return {"first": samples[0]["index"], "crops": crops, "scale": scale, "shift": shift}


def normalisation(image_processor: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401
    """Scale and shift (3,) of an image processor: pixels = byte * scale + shift."""
    p = image_processor
    rescale = p.rescale_factor if p.do_rescale else 1.0
    mean, std = (p.image_mean, p.image_std) if p.do_normalize else ([0.0] * 3, [1.0] * 3)
    deviation = torch.tensor(std)
    return rescale / deviation, -torch.tensor(mean) / deviation
