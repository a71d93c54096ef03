"""What the formats of a selection share: the interface, images beside a list, conversations."""

from __future__ import annotations

import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TextIO

from presel_lightning.data.conversation import IMAGE
from presel_lightning.errors import UserError
from presel_lightning.export.selection.source import Chosen
from presel_lightning.records import Turn, image_place

WAYS = ("none", "copy", "link")
IMAGES = "images"
"""Folder of an export that images are put into."""


class Target(ABC):
    """One format: writes samples into an empty folder.

    Class attributes:
        options: fields that the command line may set.
        needs_instruction: samples without one are left out.
        needs_image: samples without an image that can be opened are left out.
    """

    options: ClassVar[tuple[str, ...]] = ()
    needs_instruction: ClassVar[bool] = True
    needs_image: ClassVar[bool] = True

    @abstractmethod
    def write(self, samples: Iterable[Chosen], folder: Path, final: Path) -> None:
        """Write every sample, holding few at a time.

        Args:
            samples: those that can be exported.
            folder: where to write.
            final: what `folder` is called in the end, absolute.
        """


@dataclass(frozen=True)
class ListTarget(Target):
    """A format that names image files rather than holding them.

    Attributes:
        images: `none` leaves them where they are, `copy` and `link` put them into `images/`.

    Raises:
        UserError: it is none of these.
    """

    options: ClassVar[tuple[str, ...]] = ("images",)
    images: str = "none"

    def __post_init__(self) -> None:
        """Check the option."""
        if self.images not in WAYS:
            raise UserError(f"--images {self.images}: unknown; choose from {', '.join(WAYS)}")

    def place(self, chosen: Chosen, folder: Path) -> str:
        """Put an image where it belongs; its absolute path, or the one relative to the export."""
        if self.images == "none":
            return str(chosen.file)
        name = f"{IMAGES}/{chosen.inside}"
        place = folder / name
        if not os.path.lexists(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            if self.images == "copy":
                shutil.copyfile(chosen.file, place)
            else:
                place.symlink_to(chosen.file)
        return name


@dataclass(frozen=True)
class ShardTarget(Target):
    """A format that holds the images, in files of about equal size.

    Attributes:
        shard_mb: megabytes from which on the next file is begun.

    Raises:
        UserError: it is not positive.
    """

    options: ClassVar[tuple[str, ...]] = ("shard_mb",)
    shard_mb: int = 500

    def __post_init__(self) -> None:
        """Check the option."""
        if self.shard_mb < 1:
            raise UserError(f"--shard_mb {self.shard_mb}: give a whole number of megabytes from 1")

    @property
    def shard_bytes(self) -> int:
        """Bytes from which on the next file is begun."""
        return self.shard_mb * 1_000_000


def write_list(records: Iterable[dict[str, Any]], handle: TextIO) -> None:
    """Write a JSON list, a record a line."""
    handle.write("[")
    for number, record in enumerate(records):
        handle.write(",\n" if number else "\n")
        handle.write(json.dumps(record, ensure_ascii=False))
    handle.write("\n]\n")


def questions(turns: Sequence[Turn]) -> list[tuple[str, str]]:
    r"""Questions and answers, with `<image>\n` before the question that shows it alone."""
    texts = [(turn.question, turn.answer) for turn in turns]
    place = image_place(turns)
    question, answer = texts[place]
    texts[place] = (f"{IMAGE}\n{question}" if question else IMAGE, answer)
    return texts
