"""Where a checkpoint's name leads: a shipped model, a local folder, a hub id, or three parts."""

from __future__ import annotations

from pathlib import Path

from presel_lightning import quickstart
from presel_lightning.errors import UserError
from presel_lightning.models import efficientnet
from presel_lightning.models.assemble import build_llava
from presel_lightning.models.components import Components, components_of, describe_components
from presel_lightning.models.content import describe_model
from presel_lightning.run.files import read_json
from presel_lightning.run.fingerprint import fingerprint

SHIPPED = {
    "quickstart": "CHECKPOINT",
    "quickstart-encoder": "ENCODER",
    "quickstart-matcher": "MATCHER",
}

Checkpoint = str | Components


def name_of(origin: Checkpoint) -> str:
    """Return the name of a checkpoint for messages; of three parts that of the language model."""
    return origin.language_model if isinstance(origin, Components) else origin


def resolve_checkpoint(name: Checkpoint) -> str:
    """Turn a shipped model's name, or three parts, into a folder; leave folders and hub ids.

    Raises:
        UserError: the name looks like a path, and nothing lies there; or a part is missing.
    """
    if isinstance(name, Components):
        parts = (name.language_model, name.vision_tower, name.projector)
        return str(build_llava(*parts, aspect=name.aspect))
    if name in SHIPPED:
        return str(getattr(quickstart, SHIPPED[name]))
    if not name.strip():
        raise UserError("model.checkpoint is an empty text; give a folder or a hub id")
    path = Path(name).expanduser()
    if (path / "run.json").is_file():
        raise UserError(f"checkpoint {name!r} is a run folder; give {path / 'models' / 'final'}")
    if path.is_dir():
        return str(path)
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise UserError(
            f"checkpoint {name!r} is neither a folder nor a hub id (owner/name); "
            f"set model.checkpoint to one, or to a shipped model: {', '.join(SHIPPED)}"
        )
    return name


def shipped_name(name: Checkpoint) -> str | None:
    """Return which shipped model a checkpoint is, or was tuned from; None for any other."""
    if isinstance(name, Components) or name == efficientnet.NAME:
        return None
    place = resolve_checkpoint(name)
    while is_adapter(place):
        place = resolve_checkpoint(base_of(place))
    places = {resolve_checkpoint(shipped): shipped for shipped in SHIPPED}
    return places.get(place)


def is_adapter(folder: str) -> bool:
    """Whether a checkpoint folder holds a PEFT adapter rather than a whole model."""
    return (Path(folder) / "adapter_config.json").is_file()


def base_of(folder: str) -> str:
    """The checkpoint that an adapter was trained on, assembled again where it was cleared away."""
    name: str = read_json(Path(folder) / "adapter_config.json")["base_model_name_or_path"]
    parts = components_of(folder)
    return name if parts is None or Path(name).is_dir() else resolve_checkpoint(parts)


def describe_checkpoint(name: Checkpoint) -> str:
    """Name a checkpoint by its content, for fingerprints: a folder, parts, or a hub's commit.

    An adapter is named by that of its base as well.
    """
    if isinstance(name, Components):
        return describe_components(name)
    place = resolve_checkpoint(name)
    if is_adapter(place):
        return fingerprint([describe_model(place), describe_checkpoint(base_of(place))])
    return describe_model(place)
