"""Sketched gradient of every image-text pair's contrastive loss with respect to a two-tower probe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from presel_lightning.signals.gradients import Gradients


class PairGradients(Gradients):
    """`pair_gradients/`: the columns of `gradients`, of the contrastive loss of each pair.

    The probe is trained on all pairs outside the reference split; the loss of a pair is that against a
    fixed bank of negatives. `edges` of `meta.json` are those of the probe's layers.
    """

    name: ClassVar[str] = "pair_gradients"
    artifacts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "warm_up": ("models/warm_up",),
        "pair_gradients": ("signals/pair_gradients",),
    }
