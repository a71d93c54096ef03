"""Gradient of each pair's contrastive loss with respect to the two-tower probe, as a sketch."""

from __future__ import annotations

from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import torch
from lightning import LightningModule
from torch import Tensor
from torch.func import functional_call, grad_and_value, vmap

from presel_lightning.errors import UserError
from presel_lightning.functional.contrastive import bank_losses
from presel_lightning.functional.sketch import Sketch, draw_sketch, project
from presel_lightning.tasks.two_tower import SIDES, TwoTower

Batch = dict[str, Any]
LAYERS = {
    f"{side}.{place}": [f"{side}.{part}.{kind}" for part in parts for kind in ("weight", "bias")]
    for side in SIDES
    for place, parts in (("first", ("first",)), ("second", ("second", "norm")))
}
"""The parameters of each layer of the probe; a normalization belongs to the layer before it."""


class Bank(NamedTuple):
    """The pairs whose images and texts are the negatives of every other pair."""

    image: Tensor
    """(M, D) vectors of the encoder."""
    text: Tensor
    """(M, D) vectors of the encoder."""
    picture: Tensor
    """(M, 2) int64 digest of the image file of each."""


class PairGradients(LightningModule):
    """The columns of the signal `pair_gradients`, from a batch of `PairVectors`.

    The loss of a pair is that against the bank, which passes through the same heads. All pairs of a
    batch share a vectorised backward pass, exact for each. Columns are divided among the layers.

    Args:
        probe: trained heads.
        bank: of negatives.
        width: numbers that a gradient is reduced to.
        seed: of the projection.

    Raises:
        UserError: there are fewer columns than layers.
    """

    def __init__(self, probe: TwoTower, bank: Bank, width: int, seed: int) -> None:
        super().__init__()
        if width < len(LAYERS):
            raise UserError(
                f"gradient_width is {width}, and the two-tower probe has {len(LAYERS)} layers, each "
                "of which needs a column; raise it"
            )
        self.probe, self.width, self.seed = probe, width, seed
        self.bank_image: Tensor
        self.bank_text: Tensor
        self.bank_picture: Tensor
        for name, value in bank._asdict().items():
            self.register_buffer(f"bank_{name}", value, persistent=False)
        self.sketches: dict[str, Sketch] = {}

    def edges(self) -> np.ndarray:
        """First column of each layer, and the width, (L + 1,)."""
        return np.linspace(0, self.width, len(LAYERS) + 1).astype(np.int64)

    def sketch_of(self, name: str, size: int, columns: int) -> Sketch:
        """Projection of a layer; drawn once."""
        if name not in self.sketches:
            drawn = draw_sketch(size, columns, [self.seed, crc32(name.encode())])
            self.sketches[name] = drawn.to(self.device)
        return self.sketches[name]

    def loss(self, weights: dict[str, Tensor], image: Tensor, text: Tensor, own: Tensor) -> Tensor:
        """Compute the loss of one pair (D,), (D,) under some weights of the probe."""

        def encoded(side: str, vectors: Tensor) -> Tensor:
            found: Tensor = functional_call(self.probe, weights, (side, vectors))
            return found

        found = bank_losses(
            encoded("image", image[None]),
            encoded("text", text[None]),
            encoded("image", self.bank_image),
            encoded("text", self.bank_text),
            own[None],
            self.probe.temperature,
        )
        return found[0]

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Compute loss and sketched gradient of each pair of a block."""
        with torch.inference_mode(False), torch.no_grad():
            # a tensor of inference mode has no place in a backward pass
            given = {name: batch[name].clone() for name in (*SIDES, "picture")}
            own = (given["picture"][:, None] == self.bank_picture).all(dim=-1)  # (B, M)
            weights = {name: value.detach() for name, value in self.probe.named_parameters()}
            each = vmap(grad_and_value(self.loss), in_dims=(None, 0, 0, 0))
            gradients, losses = each(weights, given["image"], given["text"], own)
            return self.columns(gradients, losses)

    def columns(self, gradients: dict[str, Tensor], losses: Tensor) -> dict[str, Tensor]:
        """Reduce gradients (B, ...) by parameter to the columns of the signal."""
        rows, edges = len(losses), self.edges()
        found = losses.new_zeros(rows, self.width)
        squares = losses.new_zeros(rows)
        for place, (name, parameters) in enumerate(LAYERS.items()):
            whole = torch.cat([gradients[each].flatten(1) for each in parameters], dim=1)
            columns = slice(int(edges[place]), int(edges[place + 1]))
            sketch = self.sketch_of(name, whole.shape[1], columns.stop - columns.start)
            found[:, columns] = project(whole, sketch)
            squares += whole.square().sum(dim=1)
        length = found.norm(dim=1)
        direction = torch.where(length[:, None] > 0, found / length[:, None], 0.0)
        return {
            "direction": direction.half(),
            "length": length,
            "norm": squares.sqrt(),
            "loss": losses.float(),
        }

    def configure_optimizers(self) -> None:
        """Nothing is trained."""
