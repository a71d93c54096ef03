"""Image paths to files below one root."""

from __future__ import annotations

import os
import unicodedata
from functools import lru_cache
from pathlib import Path

from presel_lightning.errors import UserError


class OutsideRoot(UserError):
    """An image path that leaves the image root."""


class Resolver:
    """Finds files below one root; remembers its folders, so that a file costs one call.

    Args:
        root: folder that no path may leave, also not by `..`.
        follow_links: whether links below it may lead out of it.
    """

    def __init__(self, root: Path, follow_links: bool = False) -> None:
        self.root = os.path.realpath(root)
        self.follow_links = follow_links
        self._folders: dict[str, str] = {}

    def __call__(self, relative: str) -> Path:
        """Real path of an image, whether it exists or not.

        Raises:
            OutsideRoot: it leaves the root.
        """
        if os.path.isabs(relative) or "\0" in relative:
            raise OutsideRoot(f"image path {relative!r} is not relative to the image root")
        inside = as_on_disk(self.root, relative)
        folder, name = os.path.split(inside)
        if name in ("", ".", ".."):
            real = os.path.realpath(os.path.join(self.root, inside))
        else:
            real = os.path.join(self._folder(folder), name)
            real = os.path.realpath(real) if os.path.islink(real) else real
        if os.path.commonpath([self.root, real]) != self.root:
            self._refuse_outside(relative)
        return Path(real)

    def _folder(self, folder: str) -> str:
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(os.path.join(self.root, folder))
        return self._folders[folder]

    def _refuse_outside(self, relative: str) -> None:
        """Refuse a path that leads out of the root, unless by links that are followed."""
        if os.path.normpath(relative).split(os.sep)[0] == os.pardir:
            raise OutsideRoot(f"image path {relative!r} leaves the image root")
        if not self.follow_links:
            raise OutsideRoot(
                f"image path {relative!r} leads by a link out of the image root; follow_links: true "
                "follows it"
            )


def resolver_of(root: Path | Resolver) -> Resolver:
    """What finds images below a root; one that follows no links where only the folder is given."""
    return root if isinstance(root, Resolver) else Resolver(root)


def tidy(relative: str) -> str:
    """An image path without `.` and empty parts; as it is where it is absolute or climbs.

    `./a.jpg` and `b//c.jpg` name the same files as `a.jpg` and `b/c.jpg`.
    """
    parts = relative.split("/")
    if relative.startswith("/") or ".." in parts or not relative.strip("./"):
        return relative
    return "/".join(part for part in parts if part not in ("", "."))


def as_on_disk(root: str, relative: str) -> str:
    """A path as its parts are spelled on the disk, where accents are composed otherwise there.

    macOS writes names decomposed (NFD), most other programs composed (NFC). A name that is there
    as it is spelled is taken before one that is equal only once both are composed.
    """
    if relative.isascii() or os.path.lexists(os.path.join(root, relative)):
        return relative
    found = ""
    for part in relative.split("/"):
        names = {} if part.isascii() else _composed(os.path.join(root, found))
        exact = os.path.lexists(os.path.join(root, found, part))
        spelled = part if exact else names.get(unicodedata.normalize("NFC", part), part)
        found = os.path.join(found, spelled)
    return found


@lru_cache(maxsize=256)
def _composed(folder: str) -> dict[str, str]:
    """Names in a folder that are not ASCII, by their composed form; the first of equal ones."""
    try:
        names = sorted(os.listdir(folder), reverse=True)
    except OSError:
        return {}
    return {unicodedata.normalize("NFC", name): name for name in names if not name.isascii()}
