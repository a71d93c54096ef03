"""Lookup of shipped configs by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from presel_lightning.cli.mistakes import read_config, suggest
from presel_lightning.errors import UserError


def configs_folder() -> Path:
    """Return the folder of the shipped configs."""
    return Path(__file__).parents[1] / "configs"


def find_configs(argv: Sequence[str]) -> tuple[list[str], str]:
    """Resolve the names of shipped configs, and put files before options, which override them.

    Returns:
        The arguments, and the name of the last config (for the default run folder).

    Raises:
        UserError: there is no such file or shipped config, or it is not YAML with keys.
    """
    files: list[str] = []
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        key, has_value, value = word.partition("=")
        if key not in ("--config", "-c"):
            if re.match(r"-[a-z]{2}", word):
                raise UserError(f"{word}: options begin with two dashes; did you mean -{word}?")
            rest.append(word)
            continue
        name = value if has_value else next(words, "")
        shipped = configs_folder() / name
        if not Path(name).is_file() and not (name and shipped.is_file()):
            known = sorted(path.stem for path in configs_folder().glob("*.yaml"))
            near = suggest(Path(name).stem, known)  # endings are alike
            cure = near.replace("?", ".yaml?") or f" ({', '.join(f'{k}.yaml' for k in known)})"
            what = f"{name}: no such file, and no shipped config" if name else "needs a file"
            raise UserError(f"--config {what}{cure}")
        files.append(name if Path(name).is_file() else str(shipped))
        read_config(files[-1])
    options = [word for file in files for word in ("--config", file)]
    return options + rest, Path(files[-1]).stem if files else "run"
