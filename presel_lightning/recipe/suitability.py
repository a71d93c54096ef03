"""What a run does that is likely not meant: unsuited models, tasks without a sample."""

from __future__ import annotations

from collections.abc import Iterable

from presel_lightning.data.pool import Pool
from presel_lightning.models import efficientnet
from presel_lightning.models.checkpoint import Checkpoint, shipped_name
from presel_lightning.models.hub import WITHOUT_DINOV2
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


def second_choice(encoder: str | None, chosen: str | None) -> list[str]:
    """Return the warning of an encoder that took DINOv2's place, which cannot be had here.

    Args:
        encoder: checkpoint of the image encoder; None where no features are computed.
        chosen: what `auto` came to; None where the configuration names an encoder.
    """
    return [WITHOUT_DINOV2] if encoder == efficientnet.NAME and chosen == encoder else []


def empty_tasks(pool: Pool, uids: Iterable[str]) -> list[str]:
    """Describe the tasks of which nothing is selected, in one line or none.

    Args:
        pool: every sample, with its reference split.
        uids: what is selected beside it.
    """
    filled = set(pool.task[pool.rows(uids)]) | set(pool.task[pool.reference])
    empty = [task for task in pool.tasks if task not in filled]
    if not empty:
        return []
    what = f"no sample of {len(empty)} of {len(pool.tasks)} tasks is selected"
    return [f"{what}, such as {', '.join(empty[:3])}; raise data.budget where they matter"]
