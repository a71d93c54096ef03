"""Where a checkpoint's name leads: a shipped model, a local folder, or a hub id."""

from __future__ import annotations

from pathlib import Path

from presel_lightning import quickstart
from presel_lightning.errors import UserError
from presel_lightning.store import digest_folder, read_json

SHIPPED = {"quickstart": "CHECKPOINT", "quickstart-encoder": "ENCODER"}


def resolve_checkpoint(name: str) -> str:
    """Turn the name of a shipped model into its folder; leave folders and hub ids as they are.

    Raises:
        UserError: the name looks like a path, and nothing lies there.
    """
    if name in SHIPPED:
        return str(getattr(quickstart, SHIPPED[name]))
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise UserError(
            f"checkpoint {name!r} is neither a folder nor a hub id (owner/name); "
            f"set model.checkpoint to one, or to a shipped model: {', '.join(SHIPPED)}"
        )
    return name


def is_adapter(folder: str) -> bool:
    """Whether a checkpoint folder holds a PEFT adapter rather than a whole model."""
    return (Path(folder) / "adapter_config.json").is_file()


def base_of(folder: str) -> str:
    """The checkpoint that an adapter was trained on."""
    name: str = read_json(Path(folder) / "adapter_config.json")["base_model_name_or_path"]
    return name


def describe_checkpoint(name: str) -> str:
    """Name a checkpoint by its content (a folder) or by its id (a hub), for fingerprints."""
    place = resolve_checkpoint(name)
    return digest_folder(Path(place)) if Path(place).is_dir() else place
