"""A PEFT adapter, for `PeftModel.from_pretrained`."""

from __future__ import annotations

import shutil
from pathlib import Path

from presel_lightning.export.folder import new_folder
from presel_lightning.export.source import adapter_folder
from presel_lightning.models.checkpoint import base_of, resolve_checkpoint
from presel_lightning.run.files import read_json, write_json

CONFIG = "adapter_config.json"


def export_adapter(checkpoint: str, path: str | Path) -> Path:
    """Copy a PEFT adapter, with its base model resolved to a folder or a hub id.

    Args:
        checkpoint: folder that a fit with LoRA wrote.
        path: new folder.

    Raises:
        UserError: `path` exists, or there is no adapter.
    """
    source = adapter_folder(checkpoint)
    with new_folder(path) as folder:
        shutil.copytree(source, folder, dirs_exist_ok=True)
        config = read_json(source / CONFIG)
        base = resolve_checkpoint(base_of(str(source)))
        place = Path(base)
        config["base_model_name_or_path"] = str(place.resolve()) if place.is_dir() else base
        write_json(folder / CONFIG, config)
    return Path(path)
