"""Token lists to padded tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from presel_lightning.functional.token_loss import IGNORE


def pad(rows: Sequence[Sequence[int]], value: int, *, left: bool = False) -> Tensor:
    """Stack token lists to (B, L), padded on one side."""
    return pad_sequence(
        [torch.tensor(row, dtype=torch.long) for row in rows],
        batch_first=True,
        padding_value=value,
        padding_side="left" if left else "right",
    )


def text_batch(ids: Sequence[Sequence[int]], pad_id: int, *, left: bool = False) -> dict[str, Any]:
    """Token ids and attention mask of a batch, both (B, L)."""
    return {
        "input_ids": pad(ids, pad_id, left=left),
        "attention_mask": pad([[1] * len(row) for row in ids], 0, left=left),
    }


def labelled_text(encoded: Sequence[Any], pad_id: int) -> dict[str, Any]:
    """Tokens and labels of a batch for a loss over answers; right padding."""
    return {
        **text_batch([e.input_ids for e in encoded], pad_id),
        "labels": pad([e.labels for e in encoded], IGNORE),
    }
