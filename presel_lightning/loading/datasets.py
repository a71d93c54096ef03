"""Rows of the pool as datasets: to train on, to score with and without the question, to embed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from presel_lightning.loading.encoder import SIDES, TEXT, SampleEncoder
from presel_lightning.loading.packing import packed
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
        capacity: tokens of a row, to pack samples into rows instead of padding each.
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
        capacity: int | None = None,
    ) -> None:
        self.pool, self.rows, self.encoder, self.texts = pool, rows, encoder, texts
        self.weights = np.ones(len(rows)) if weights is None else weights
        self.max_pixels, self.pixels = max_pixels, pixels
        self.capacity = capacity

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
        batch = self.encoder.batch(samples)
        if self.capacity:
            batch = packed(batch, self.capacity)
        return {**batch, "weight": weights}


class ReadSet(TrainSet):
    """Instructions that a model reads, and is not trained on."""

    def lengths(self) -> np.ndarray:
        """Tokens of each sample with its question and without; what both share counts once."""
        pool = self.pool
        sizes = (
            self.encoder.pair_length(pool.sample(row).turns, pool.image_paths(row))
            for row in map(int, self.rows)
        )
        return np.fromiter(sizes, np.int64, len(self))


class PairSet(ReadSet):
    """Each sample twice: with its question and without, for the paired losses."""

    def __getitem__(self, place: Row) -> dict[str, Any]:
        """The images of a sample, decoded once, with both inputs."""
        index, _ = place
        row = int(self.rows[index])
        turns, images = self.pool.sample(row).turns, self._images(row)
        return {"index": index, **self.encoder.pair(turns, images)}

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Two labelled batches of the same images; see `SampleEncoder.pair_batch`."""
        return {"first": samples[0]["index"], **self.encoder.pair_batch(samples)}


class BranchSet(PairSet):
    """Each sample three times: with its question, without it, and without its image."""

    def __getitem__(self, place: Row) -> dict[str, Any]:
        """One image, decoded once, with both inputs, and the text alone."""
        turns = self.pool.sample(int(self.rows[place[0]])).turns
        return {**super().__getitem__(place), TEXT: self.encoder.sample(turns, None)}

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """The batch of pairs, and beside it that of the texts under `TEXT`."""
        text = self.encoder.batch([sample[TEXT] for sample in samples])
        return {**super().collate(samples), TEXT: without_blank(text)}


class TextSet(ReadSet):
    """Each sample once, without its image."""

    def __getitem__(self, place: Row) -> dict[str, Any]:
        """The conversation; no image is read."""
        turns = self.pool.sample(int(self.rows[place[0]])).turns
        return {"index": place[0], **self.encoder.sample(turns, None)}

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Inputs of the model with labels (B, L)."""
        batch = without_blank(self.encoder.batch(samples))
        return {"first": samples[0]["index"], **batch}


class WholeSet(ReadSet):
    """Each sample once: image, questions and answers."""

    def __getitem__(self, place: Row) -> dict[str, Any]:
        """One conversation with its image."""
        return {"index": place[0], **super().__getitem__(place)}

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Inputs of the model with labels (B, L)."""
        return {"first": samples[0]["index"], **self.encoder.batch(samples)}


class ValiditySet(ReadSet):
    """Each sample as two questions whether its answer is right: with its own question, and without."""

    def __getitem__(self, place: Row) -> dict[str, Any]:
        """The images of a sample with both questions."""
        row = int(self.rows[place[0]])
        turns = self.pool.sample(row).turns
        said = [
            validity_question(
                " ".join(turn.question for turn in turns) if with_question else "",
                " ".join(turn.answer for turn in turns),
            )
            for with_question in (True, False)
        ]
        images = self._images(row)
        return {"index": place[0], "asked": [((), text, images) for text in said]}

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Left-padded prompts (`SIDES`)."""
        sides = {
            side: self.encoder.prompts([sample["asked"][number] for sample in samples])
            for number, side in enumerate(SIDES)
        }
        return {"first": samples[0]["index"], **sides}


def validity_question(question: str, answer: str) -> str:
    """Word the question whether an answer is right; no `question` leaves that of the sample out."""
    shown = f"Question: {question}\n" if question else ""
    return f"{shown}Answer: {answer}\nIs this a right answer about the image? Reply with Yes or No."


def without_blank(batch: dict[str, Any]) -> dict[str, Any]:
    """A batch without the black image that a batch of texts alone brings for a fit."""
    return {name: value for name, value in batch.items() if name != "blank"}


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


def text_of_pair(pool: Pool, row: int) -> str:
    """Return all that is asked and answered about the image of a sample."""
    turns = pool.sample(row).turns
    return " ".join(part for turn in turns for part in (turn.question, turn.answer) if part)


class MatchSet(ImageSet):
    """Images, each with the text of its conversation.

    Args:
        pool: every sample.
        rows: (N,) which of them.
        image_processor: of the encoder.
        reader: texts to tokens (B, L).
        max_pixels: limit on an image, that of the pool.
        pixels: how an image is read, that of the pool.
    """

    def __init__(
        self,
        pool: Pool,
        rows: np.ndarray,
        image_processor: Any,  # noqa: ANN401 - transformers has one class a model
        reader: Callable[[Sequence[str]], dict[str, Tensor]],
        max_pixels: int = MAX_PIXELS,
        pixels: Pixels = "as_shown",
    ) -> None:
        paths = [pool.image_path(int(row)) for row in rows]
        super().__init__(paths, image_processor, max_pixels, pixels)
        self.pool, self.rows, self.reader = pool, rows, reader

    def __getitem__(self, place: Row) -> dict[str, Any]:
        """One image, resized and cropped, and all that is asked and answered about it."""
        text = text_of_pair(self.pool, int(self.rows[place[0]]))
        return {**super().__getitem__(place), "text": text}

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """The batch of images, and `tokens` of the texts."""
        tokens = self.reader([sample["text"] for sample in samples])
        return {**super().collate(samples), "tokens": tokens}


def normalisation(image_processor: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401
    """Scale and shift (3,) of an image processor: pixels = byte * scale + shift."""
    p = image_processor
    rescale = p.rescale_factor if p.do_rescale else 1.0
    mean, std = (p.image_mean, p.image_std) if p.do_normalize else ([0.0] * 3, [1.0] * 3)
    deviation = torch.tensor(std)
    return rescale / deviation, -torch.tensor(mean) / deviation
