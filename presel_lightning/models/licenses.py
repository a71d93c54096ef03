"""Licenses of published models, as their own cards state them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from huggingface_hub import HfApi, ModelCard, constants, try_to_load_from_cache

from presel_lightning.models.checkpoint import SHIPPED
from presel_lightning.models.components import looks_like_hub_id
from presel_lightning.models.content import CARD, HUB_TIMEOUT

OWN = "apache-2.0"
"""License of this package, and so of the models that it ships."""


def license_of(name: str) -> str | None:
    """Return the license of a checkpoint by the identifier of its model card; None where unknown.

    The card is that of the folder or of the hub's cache; without one, the hub is queried.

    Args:
        name: folder, file in one, hub id, or name of a shipped model.
    """
    if name in SHIPPED:
        return OWN
    place = Path(name).expanduser()
    if place.exists():
        return _stated(place / CARD if place.is_dir() else place.parent / CARD)
    if not looks_like_hub_id(name):
        return None
    cached = try_to_load_from_cache(name, CARD)
    if isinstance(cached, str):
        return _stated(Path(cached))
    return None if constants.HF_HUB_OFFLINE else _of_hub(name)


def _stated(card: Path) -> str | None:
    if not card.is_file():
        return None
    try:
        found = ModelCard.load(card, ignore_metadata_errors=True).data.license
    except Exception:  # noqa: BLE001 - a card may hold anything
        return None
    return str(found) if found else None


@cache
def _of_hub(name: str) -> str | None:
    try:
        data = HfApi().model_info(name, timeout=HUB_TIMEOUT).card_data
    except Exception:  # noqa: BLE001 - no network or no access, in the errors of any HTTP library
        return None
    return str(data.license) if data is not None and data.license else None
