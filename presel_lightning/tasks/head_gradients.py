"""Gradient of each sample's loss with respect to the output head, from one forward pass."""

from __future__ import annotations

from math import isqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor

from presel_lightning.functional.sketch import Sketch, draw_sketch, project
from presel_lightning.functional.token_loss import answer_positions, sample_losses
from presel_lightning.models.forward import answer_logits, hidden_states, model_inputs
from presel_lightning.tasks.finetune import FineTune
from presel_lightning.tasks.reader import Reader, without_place

Batch = dict[str, Any]


class HeadGradients(Reader):
    r"""The columns of the signal `head_gradients`, from one batch of `WholeSet`.

    With h_t the last hidden state that answer token t is predicted from, and e_t the softmax of its
    logits minus its one-hot vector, the gradient of the mean loss with respect to the output
    embeddings is

    .. math:: \frac{1}{n} \sum_t e_t h_t^T

    No backward pass is needed. Both sides are projected to p numbers, p² being at most the width.

    Args:
        tuned: the model, before any weight is loaded.
        width: numbers that a gradient is reduced to.
        seed: of the projections.
    """

    def __init__(self, tuned: FineTune, width: int, seed: int) -> None:
        super().__init__(tuned)
        self.side, self.seed = isqrt(width), seed
        self._sketches: tuple[Sketch, Sketch] | None = None

    def edges(self) -> np.ndarray:
        """The head is one group of columns, (2,)."""
        return np.array([0, self.side**2])

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Compute loss and sketched gradient of each sample of a block."""
        labels = batch["labels"]
        hidden = hidden_states(self.model, model_inputs(self.model, without_place(batch)))
        logits = answer_logits(self.model, hidden, labels).float()  # (T, V)
        sums, counts = sample_losses(logits, labels)
        positions = answer_positions(labels)  # (B, L - 1)
        sample = positions.nonzero()[:, 0]
        states = hidden[:, :-1][positions].float()  # (T, D)
        errors = logits.softmax(dim=1)
        errors[torch.arange(len(errors)), labels[:, 1:][positions]] -= 1
        left, right = self.sketches(errors.shape[1], states.shape[1])
        errors, states = project(errors, left), project(states, right)
        each = torch.einsum("ti,tj->tij", errors, states).flatten(1)
        found = torch.zeros(len(labels), self.side**2, device=each.device)
        for number in range(len(labels)):  # in the order of the tokens, whatever the device
            found[number] = each[sample == number].sum(dim=0)
        found /= counts.clamp(min=1)[:, None]
        length = found.norm(dim=1)
        direction = torch.where(length[:, None] > 0, found / length[:, None], 0.0)
        return {
            "direction": direction.half(),
            "length": torch.where(counts > 0, length, torch.nan),
            "norm": length,
            "loss": (sums / counts).float(),
        }

    def sketches(self, vocabulary: int, width: int) -> tuple[Sketch, Sketch]:
        """Projections of errors and of states; drawn once."""
        if self._sketches is None:
            self._sketches = (
                draw_sketch(vocabulary, self.side, [self.seed, 0]).to(self.device),
                draw_sketch(width, self.side, [self.seed, 1]).to(self.device),
            )
        return self._sketches
