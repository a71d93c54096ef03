"""Any model on any batch: what it is given, its hidden states, and the losses of the answers."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from presel_lightning.functional.token_loss import answer_positions, sample_losses
from presel_lightning.models.llava import unwrapped

Batch = dict[str, Any]

NOT_FOR_THE_MODEL = ("labels", "weight")
"""Entries of a batch that say what to learn rather than what to read."""


def model_inputs(model: nn.Module, batch: Batch) -> Batch:
    """What a model reads of a batch, by its processor's own names; pixels in the model's dtype."""
    dtype = unwrapped(model).dtype
    return {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in batch.items()
        if name not in NOT_FOR_THE_MODEL
    }


def hidden_states(model: nn.Module, inputs: Batch) -> Tensor:
    """Last hidden states (B, L, D) of inputs from `model_inputs`."""
    states: Tensor = unwrapped(model).model(**inputs, use_cache=False).last_hidden_state
    return states


def answer_logits(model: nn.Module, hidden: Tensor, labels: Tensor) -> Tensor:
    """Logits (T, V) at the answer positions of hidden states (B, L, D).

    The language-model head is applied there only.
    """
    logits: Tensor = unwrapped(model).get_output_embeddings()(
        hidden[:, :-1][answer_positions(labels)]
    )
    return logits


def answer_losses(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Summed answer loss (B,) and number of answer tokens (B,) of each sample of a batch."""
    hidden, labels = hidden_states(model, model_inputs(model, batch)), batch["labels"]
    return sample_losses(answer_logits(model, hidden, labels), labels)
