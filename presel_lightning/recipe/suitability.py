"""Shipped models on images that they know nothing of."""

from __future__ import annotations

from collections.abc import Iterable

from presel_lightning.models.checkpoint import Checkpoint, shipped_name
from presel_lightning.quickstart.world import is_drawn

ENCODER = (
    "stages.features.model.checkpoint is quickstart-encoder, which knows nothing but the quickstart's "
    "coloured shapes: of the 5 nearest neighbours of a photograph in its features 20.7 % are of the "
    "same folder, by chance 17.1 %; give an encoder of photographs, such as facebook/dinov2-base"
)
"""Measured on 480 photographs in folders, their share among neighbours by cosine similarity."""
MODEL = (
    "model.checkpoint is the quickstart's LLaVA, which knows nothing but the quickstart's coloured shapes: its "
    "losses and answers on other images mean nothing; give a model of photographs, such as "
    "llava-hf/llava-1.5-7b-hf"
)


def unsuited(images: Iterable[str], encoder: str | None, models: Iterable[Checkpoint]) -> list[str]:
    """Return warnings of shipped models that are used on other images than the quickstart's.

    Args:
        images: paths of the pool's images.
        encoder: checkpoint of the image encoder; None where no features are computed.
        models: checkpoints of the models that are fitted, or that losses are computed with.
    """
    used = {name for model in models if (name := shipped_name(model)) is not None}
    encoded = None if encoder is None else shipped_name(encoder)
    if not (used or encoded) or is_drawn(images):
        return []
    return [
        *([ENCODER] if encoded is not None else []),
        *([MODEL] if used else []),
    ]
