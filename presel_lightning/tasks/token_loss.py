"""Losses of the answers: with question and image, and without either."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from presel_lightning.functional.token_loss import (
    error_norms,
    first_answer_tokens,
    sample_losses,
    sample_means,
)
from presel_lightning.loading.encoder import TEXT
from presel_lightning.models.forward import answer_logits, hidden_states, model_inputs
from presel_lightning.tasks.reader import Reader, without_place

Batch = dict[str, Any]


class TokenLosses(Reader):
    """The columns of the signal `token_loss`, from one batch of `BranchSet`."""

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Compute means over the answer tokens of each sample of a block."""
        (logits, labels), (without, others) = self.tuned.paired_logits(batch)
        sums, counts = sample_losses(logits, labels)
        other_sums, other_counts = sample_losses(without, others)
        norms, margins = error_norms(logits, labels)
        text = batch[TEXT]
        hidden = hidden_states(self.model, model_inputs(self.model, text))  # (B, L, D)
        alike = first_answer_tokens(text["labels"], counts)
        text_sums, text_counts = sample_losses(answer_logits(self.model, hidden, alike), alike)
        return {
            "loss_with_question": sums / counts,
            "loss_without_question": other_sums / other_counts,
            "loss_without_image": text_sums / text_counts,
            "error_norm": sample_means(norms, labels),
            "margin": sample_means(margins, labels),
            "n_tokens": counts.int(),
            "text": mean_state(hidden, text["attention_mask"]).half(),
        }


class TextLosses(Reader):
    """L(R|Q) of each sample of a batch of `TextSet`."""

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Compute the mean loss of the answer tokens of each sample of a block."""
        hidden = hidden_states(self.model, model_inputs(self.model, without_place(batch)))
        labels = batch["labels"]
        sums, counts = sample_losses(answer_logits(self.model, hidden, labels), labels)
        return {"loss_without_image": sums / counts}


def mean_state(hidden: Tensor, mask: Tensor) -> Tensor:
    """Average hidden states (B, L, D) over the tokens of a mask (B, L), (B, D) float32."""
    weight = mask.to(torch.float32)[..., None]
    return (hidden.float() * weight).sum(dim=1) / weight.sum(dim=1)
