"""A small probe on the vectors of an image-text encoder: one head a side, trained contrastively."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import normalize, relu

from presel_lightning.functional.contrastive import TEMPERATURE, contrastive_losses
from presel_lightning.run.files import read_json

Batch = dict[str, Any]
SIDES = ("image", "text")


class Head(nn.Module):
    """Vectors of one side to the space of both: two layers, normalised.

    Args:
        width: dimension of the encoder's vectors.
        hidden: width of the layer between.
        dimension: of the space.
    """

    def __init__(self, width: int, hidden: int, dimension: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, hidden)
        self.second = nn.Linear(hidden, dimension)
        self.norm = nn.LayerNorm(dimension)

    def forward(self, vectors: Tensor) -> Tensor:
        """Map vectors (..., width) to vectors (..., dimension) of unit length."""
        return normalize(self.norm(self.second(relu(self.first(vectors)))), dim=-1)


class TwoTower(LightningModule):
    """Two heads on frozen vectors of images and texts, trained by the symmetric InfoNCE.

    A sample's weight multiplies its loss; the loss of a batch is the weighted mean. Every process
    trains on the whole batch, since the negatives of a pair are the others of its batch: the result
    is the same on any number of processes.

    Args:
        width: dimension of the encoder's vectors.
        hidden: width of the layer inside of a head.
        dimension: of the common space.
        temperature: divides the cosines.
        lr: learning rate of Adam, constant.
        weight_decay: of Adam.
        seed: of the first weights.

    Source: the probe of InfluenceSpace's published code.
    """

    def __init__(
        self,
        width: int,
        hidden: int = 256,
        dimension: int = 256,
        temperature: float = TEMPERATURE,
        lr: float = 1e-3,
        weight_decay: float = 1e-5,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.shape = {"width": width, "hidden": hidden, "dimension": dimension}
        self.temperature, self.lr, self.weight_decay = temperature, lr, weight_decay
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.image, self.text = (Head(width, hidden, dimension) for _ in SIDES)

    def forward(self, side: str, vectors: Tensor) -> Tensor:
        """Map the encoder's vectors of one side (N, width) to the common space, (N, dimension)."""
        found: Tensor = getattr(self, side)(vectors)
        return found

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Weighted mean of the losses of a batch."""
        image, text = (self(side, batch[side]) for side in SIDES)
        losses = contrastive_losses(image, text, self.temperature)
        weight = batch["weight"]
        total = weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)
        mean: Tensor = (losses * weight).sum() / total
        self.log("train_loss", mean.detach(), prog_bar=True, batch_size=len(weight))
        return mean

    def configure_optimizers(self) -> torch.optim.Adam:
        """Adam with a constant rate, as published."""
        return torch.optim.Adam(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)

    def save(self, folder: str | Path) -> None:
        """Write the weights and the shape of the heads."""
        state = {
            name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()
        }
        save_file(state, Path(folder) / "model.safetensors")
        facts = {**self.shape, "temperature": self.temperature}
        (Path(folder) / "two_tower.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> TwoTower:
        """Read heads that `save` wrote."""
        module = cls(**read_json(Path(folder) / "two_tower.json"))
        module.load_state_dict(load_file(Path(folder) / "model.safetensors"))
        return module.eval()
