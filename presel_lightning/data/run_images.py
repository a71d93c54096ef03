"""Where the images of a finished run lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from presel_lightning import quickstart
from presel_lightning.data.pixels import Pixels
from presel_lightning.data.resolver import Resolver
from presel_lightning.data.source import listed, source
from presel_lightning.data.unpack import unpacked_before
from presel_lightning.errors import UserError


def pixels_of(run: Path) -> Pixels:
    """How a run reads its images, by its config.yaml."""
    found: Pixels = _settings(run).get("pixels", "as_shown")
    return found


def _settings(run: Path) -> dict[str, Any]:
    """Section `data` of a run's config.yaml; empty without one."""
    config = run / "config.yaml"
    if not config.is_file():
        return {}
    settings: dict[str, Any] = yaml.safe_load(config.read_text(encoding="utf-8")).get("data", {})
    return settings


def image_resolver(run: Path, given: str | Path | None = None) -> Resolver:
    """What finds a run's images: below the folder given, else that of its config.yaml.

    Links are followed where `data.follow_links` of its config.yaml says so.

    Raises:
        UserError: see `image_root`.
    """
    root = image_root(run, None if given is None else str(given))
    return Resolver(root, bool(_settings(run).get("follow_links", False)))


def image_root(run: Path, given: str | None) -> Path:
    """Folder that a run's image paths are relative to: as given, else as its config.yaml says.

    Raises:
        UserError: it is not there, or not from the folder that this command is started in.
    """
    if given is not None:
        if not Path(given).is_dir():
            raise UserError(f"--image_root {given}: no such folder")
        return Path(given)
    config = run / "config.yaml"
    if not config.is_file():
        raise UserError(f"--run {run}: no config.yaml there; give the image folder: --image_root")
    data = yaml.safe_load(config.read_text(encoding="utf-8"))["data"]
    annotations = data["annotations"]
    if quickstart.is_pool(annotations):
        annotations = str(quickstart.pool(run / "work" / "quickstart", annotations) / "train.json")
    paths = [path for _, path in listed(annotations, data.get("task_files"))]
    if (images := unpacked_before(paths, run / "work" / "unpacked")) is not None:
        return images
    try:
        return source(annotations, data["image_root"], task_files=data.get("task_files")).image_root
    except UserError as error:
        raise UserError(
            f"--run {run}: its images are located by its config.yaml, but {error}; give "
            "their folder: --image_root"
        ) from error
