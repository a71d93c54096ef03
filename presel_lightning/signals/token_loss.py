"""Losses of the answers of every sample under the pre-instruction model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from presel_lightning.signals.base import ColumnSignal


class TokenLoss(ColumnSignal):
    """`token_loss/`: columns over the samples of the pool that have an instruction.

    Means over the answer tokens of a sample, in nats for losses:

    - `loss_with_question`: L(R|Q,I);
    - `loss_without_question`: L(R|I), the input without the question being that of the IRS;
    - `loss_without_image`: L(R|Q), over as many answer tokens as the first;
    - `error_norm`: the L2 norm of softmax(logits) - onehot(token), with question and image;
    - `margin`: probability of the token minus that of the likeliest other one, likewise;
    - `n_tokens`: answer tokens;
    - `text`: (D,) mean of the last hidden states of the input without image, in half precision.
    """

    name: ClassVar[str] = "token_loss"
    artifacts: ClassVar[Mapping[str, tuple[str, ...]]] = {"token_loss": ("signals/token_loss",)}
