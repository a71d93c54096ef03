"""What names a model by its content: the bytes of a folder, or the commit of a hub repository."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from huggingface_hub import HfApi, try_to_load_from_cache
from transformers.utils.hub import extract_commit_hash

from presel_lightning.run.fingerprint import digest_folder

COMMIT = re.compile(r"[0-9a-f]{40}")
FILES = ("config.json", "adapter_config.json")
"""What a repository holds at least one of."""
CARD = "README.md"
"""The model card of a repository."""
HUB_TIMEOUT = 5.0
"""Seconds that the hub may take to answer."""


def describe_model(place: str) -> str:
    """Name a folder or a hub id by what is in it.

    A hub id and the snapshot folder that it leads to have the same name: the commit. A repository
    that cannot be reached and is not cached, so that nothing can be loaded from it, is its own name.
    The model card of a folder is no part of its name: it changes when the model is scored.
    """
    folder = Path(place)
    if not folder.is_dir():
        return _hub_commit(place) or place
    return _snapshot_commit(folder) or digest_folder(folder, without=(CARD,))


def _snapshot_commit(folder: Path) -> str | None:
    """Commit of a folder in the hub's cache, `models--OWNER--NAME/snapshots/COMMIT`."""
    name, parent = folder.resolve().name, folder.resolve().parent
    cached = parent.name == "snapshots" and parent.parent.name.startswith("models--")
    return name if cached and COMMIT.fullmatch(name) else None


@cache
def _hub_commit(name: str) -> str | None:
    """Commit that a hub id leads to: the newest, or the cached one where the hub is out of reach."""
    try:
        return HfApi().model_info(name, timeout=HUB_TIMEOUT).sha
    except Exception:  # noqa: BLE001 - the client's, of whatever library it uses: no network, no right
        cached = (try_to_load_from_cache(name, file) for file in FILES)
        places = [place for place in cached if isinstance(place, str)]
        return extract_commit_hash(places[0], None) if places else None
