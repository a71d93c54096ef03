"""Rows of the pool as datasets: to train on, to score with and without the question, to embed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from presel_lightning.data.batches import Row, labelled_batch
from presel_lightning.data.conversation import TEMPLATES
from presel_lightning.data.encoding import Encoded, encode
from presel_lightning.data.images import open_rgb
from presel_lightning.data.pool import Pool
from presel_lightning.models.processor import Processor
from presel_lightning.records import Turn


@dataclass(frozen=True)
class Encoder:
    """Turns conversations of one template into labelled tokens of one model.

    Attributes:
        template: name of the conversation template.
        processor: tokenizer and image processor of the model.
        max_length: tokens of a sample, image included; what is longer is cut at the end.
    """

    template: str
    processor: Processor
    max_length: int

    def __call__(self, turns: Sequence[Turn], *, with_question: bool = True) -> Encoded:
        """Encode one conversation, or its answers alone."""
        rendered = TEMPLATES[self.template].render(turns, with_question=with_question)
        p = self.processor
        return encode(rendered, p.tokenizer, p.n_image_tokens, self.max_length)


class TrainSet(Dataset[dict[str, Any]]):
    """Instructions to train on.

    Args:
        pool: every sample.
        rows: (N,) which of them.
        encoder: of the model that is trained.
    """

    def __init__(self, pool: Pool, rows: np.ndarray, encoder: Encoder) -> None:
        self.pool, self.rows, self.encoder = pool, rows, encoder

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.rows)

    def __getitem__(self, place: Row) -> dict[str, Any]:
        """One encoded conversation with its image and weight."""
        index, weight = place
        row = int(self.rows[index])
        pixels = self.encoder.processor.pixels(open_rgb(self.pool.image_path(row)))
        encoded = self.encoder(self.pool.sample(row).turns)
        return {"encoded": encoded, "pixels": pixels, "weight": weight}

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Pad to (B, L)."""
        pixels = torch.stack([sample["pixels"] for sample in samples])
        pad_id = self.encoder.processor.tokenizer.pad_token_id
        batch = labelled_batch([sample["encoded"] for sample in samples], pixels, pad_id)
        return {**batch, "weight": torch.tensor([sample["weight"] for sample in samples])}


class PairSet(TrainSet):
    """Each sample twice: with its question and without, for the paired losses."""

    def __getitem__(self, place: Row) -> dict[str, Any]:
        """One image with both encodings."""
        index, _ = place
        row = int(self.rows[index])
        turns = self.pool.sample(row).turns
        return {
            "index": index,
            "with_question": self.encoder(turns),
            "without_question": self.encoder(turns, with_question=False),
            "pixels": self.encoder.processor.pixels(open_rgb(self.pool.image_path(row))),
        }

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Two labelled batches that share their images."""
        pixels = torch.stack([sample["pixels"] for sample in samples])
        pad_id = self.encoder.processor.tokenizer.pad_token_id
        return {
            "first": samples[0]["index"],
            **{
                side: labelled_batch([sample[side] for sample in samples], pixels, pad_id)
                for side in ("with_question", "without_question")
            },
        }


class ImageSet(Dataset[dict[str, Any]]):
    """Images to embed, each once.

    Args:
        paths: (U,) distinct image files.
        image_processor: of the encoder.
    """

    def __init__(self, paths: Sequence[Path], image_processor: Any) -> None:  # noqa: ANN401
        self.paths, self.image_processor = paths, image_processor

    def __len__(self) -> int:
        """Number of images."""
        return len(self.paths)

    def __getitem__(self, place: Row) -> dict[str, Any]:
        """One decoded image."""
        index, _ = place
        return {"index": index, "image": open_rgb(self.paths[index])}

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Resize and normalise to (B, 3, H, W)."""
        images = [sample["image"] for sample in samples]
        pixels = self.image_processor(images=images, return_tensors="pt")["pixel_values"]
        return {"first": samples[0]["index"], "pixel_values": torch.as_tensor(pixels)}
