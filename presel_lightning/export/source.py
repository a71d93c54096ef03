"""What an export starts from: a checkpoint, told apart, and a folder to write to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from presel_lightning.errors import UserError
from presel_lightning.models.checkpoint import base_of, is_adapter, resolve_checkpoint
from presel_lightning.store import replacing_folder


def base_config(place: str) -> Any:  # noqa: ANN401 - transformers has one class a model
    """The configuration of a whole model, or of the one that an adapter belongs to."""
    base = resolve_checkpoint(base_of(place)) if is_adapter(place) else place
    return AutoConfig.from_pretrained(base)


def adapter_folder(checkpoint: str) -> Path:
    """The folder of an adapter.

    Raises:
        UserError: the checkpoint is a whole model.
    """
    place = resolve_checkpoint(checkpoint)
    if not is_adapter(place):
        raise UserError(f"{checkpoint} holds no adapter_config.json; export it as merged instead")
    return Path(place)


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Hand out a temporary folder that becomes `path` when it is complete.

    Raises:
        UserError: something lies there already.
    """
    path = Path(path)
    if path.exists() and (path.is_file() or any(path.iterdir())):
        raise UserError(f"--path {path}: exists already; give a new folder or remove it")
    with replacing_folder(path) as folder:
        yield folder
