"""Rows of the pool as datasets: to train on, to score with and without the question, to embed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from presel_lightning.data.batches import Row, labelled_batch, labelled_text
from presel_lightning.data.conversation import TEMPLATES
from presel_lightning.data.encoding import Encoded, encode, image_token_id
from presel_lightning.data.images import open_rgb
from presel_lightning.data.pool import Pool
from presel_lightning.functional.token_loss import IGNORE
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


def shared_prefix(first: Encoded, second: Encoded, image: int) -> int:
    """Tokens up to and including the image, where two inputs agree on them; else 0.

    Args:
        first: the input with the question.
        second: the input without it.
        image: id of the image token.
    """
    if image not in first.input_ids:
        return 0
    end = len(first.input_ids) - first.input_ids[::-1].index(image)
    # no answer yet, and none to be foretold from the prefix's last place
    unlabelled = {*first.labels[: end + 1], *second.labels[: end + 1]} == {IGNORE}
    goes_on = end < min(len(first.input_ids), len(second.input_ids))
    alike = first.input_ids[:end] == second.input_ids[:end]
    return end if alike and unlabelled and goes_on else 0


class PairSet(TrainSet):
    """Each sample twice: with its question and without, for the paired losses."""

    def pair(self, index: int) -> tuple[Encoded, Encoded, int]:
        """Both inputs of a sample, and how many tokens at the front they share."""
        turns = self.pool.sample(int(self.rows[index])).turns
        first, second = self.encoder(turns), self.encoder(turns, with_question=False)
        image = image_token_id(self.encoder.processor.tokenizer)
        return first, second, shared_prefix(first, second, image)

    def lengths(self) -> np.ndarray:
        """Tokens that each sample takes: what is shared once, and both continuations."""
        pairs = (self.pair(index) for index in range(len(self)))
        sizes = (len(a.input_ids) + len(b.input_ids) - shared for a, b, shared in pairs)
        return np.fromiter(sizes, np.int64, len(self))

    def __getitem__(self, place: Row) -> dict[str, Any]:
        """One image, decoded once, with both inputs."""
        index, _ = place
        first, second, shared = self.pair(index)
        image = open_rgb(self.pool.image_path(int(self.rows[index])))
        return {
            "index": index,
            "with_question": first,
            "without_question": second,
            "prefix": shared,
            "pixels": self.encoder.processor.pixels(image),
        }

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Two labelled batches of the same images.

        `prefix` is the number of tokens that all rows share at the front; 0 where they do not.
        """
        pad_id = self.encoder.processor.tokenizer.pad_token_id
        prefixes = {sample["prefix"] for sample in samples}
        return {
            "first": samples[0]["index"],
            "prefix": prefixes.pop() if len(prefixes) == 1 else 0,
            "pixel_values": torch.stack([sample["pixels"] for sample in samples]),
            **{
                side: labelled_text([sample[side] for sample in samples], pad_id)
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
        """One image, resized and cropped: (3, H, W), uint8."""
        index, _ = place
        crop = self.image_processor(
            images=open_rgb(self.paths[index]),
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
