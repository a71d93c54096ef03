"""Output folder of an export."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from presel_lightning.errors import UserError
from presel_lightning.run.files import replacing_folder


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder that is renamed to `path` at the end.

    Raises:
        UserError: `path` exists and is not an empty folder.
    """
    refuse_existing(path)
    with replacing_folder(Path(path)) as folder:
        yield folder


def refuse_existing(path: str | Path) -> None:
    """Refuse to write over what lies at the place of an export.

    Raises:
        UserError: `path` exists and is not an empty folder.
    """
    path = Path(path)
    if path.is_symlink() or (path.exists() and (path.is_file() or any(path.iterdir()))):
        raise UserError(f"--path {path}: exists already; give a new folder or remove it")
