"""Where an export is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from presel_lightning.errors import UserError
from presel_lightning.run.files import replacing_folder


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Hand out a temporary folder that becomes `path` when it is complete.

    Raises:
        UserError: something lies there already.
    """
    path = Path(path)
    if path.is_symlink() or (path.exists() and (path.is_file() or any(path.iterdir()))):
        raise UserError(f"--path {path}: exists already; give a new folder or remove it")
    with replacing_folder(path) as folder:
        yield folder
