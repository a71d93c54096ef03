"""Base classes of the selection formats, and shared functions."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TextIO

from presel_lightning.data.conversation import IMAGE, put_in
from presel_lightning.data.pixels import Pixels
from presel_lightning.errors import UserError
from presel_lightning.export.selection import pictures
from presel_lightning.export.selection.source import SelectedSample
from presel_lightning.records import Turn, image_place

WAYS = ("none", "copy", "link")
IMAGES = "images"
"""Image folder of an export."""


class Target(ABC):
    """Base class of a format: writes samples into an empty folder.

    Class attributes:
        options: fields that the command line may set.
        needs_instruction: samples without an instruction are left out.
        needs_image: samples without a readable image are left out.
        placeholders: what the format's readers count in a text as places of images and the like; samples
            with one of them among their words are left out.
    """

    options: ClassVar[tuple[str, ...]] = ()
    needs_instruction: ClassVar[bool] = True
    needs_image: ClassVar[bool] = True
    placeholders: ClassVar[tuple[str, ...]] = ()

    @property
    def rewrites(self) -> bool:
        """Whether images are rewritten where other tools would read them otherwise."""
        return True

    @abstractmethod
    def write(self, samples: Iterable[SelectedSample], folder: Path, final: Path) -> None:
        """Write every sample, with few in memory at a time.

        Args:
            samples: samples that can be exported.
            folder: temporary output folder.
            final: final path of `folder`, absolute.
        """


@dataclass(frozen=True)
class ListTarget(Target):
    """Base class of a format that references image files.

    Attributes:
        images: `none` references them in place, `copy` and `link` put them into `images/`.

    Raises:
        UserError: `images` is none of these.
    """

    options: ClassVar[tuple[str, ...]] = ("images",)
    images: str = "none"

    def __post_init__(self) -> None:
        """Check the option."""
        if self.images not in WAYS:
            raise UserError(f"--images {self.images}: unknown; choose from {', '.join(WAYS)}")

    @property
    def rewrites(self) -> bool:
        """Not where the images stay in place."""
        return self.images != "none"

    def places(self, selected: SelectedSample, folder: Path) -> list[str]:
        """Copy or link images if requested; return their absolute paths, or those in the export.

        One that other tools would read otherwise than the run is written, never linked.
        """
        if self.images == "none":
            return list(map(str, selected.files))
        each = zip(selected.files, selected.inside, strict=True)
        return [self.put(file, f"{IMAGES}/{at}", folder, selected.pixels) for file, at in each]

    def put(self, file: Path, at: str, folder: Path, pixels: Pixels) -> str:
        """Copy or link an image, unless it is there; return its path in the export.

        Args:
            file: image file.
            at: path in the export; gets another ending where that of the content is another.
            folder: of the export.
            pixels: how the run reads images.
        """
        name = pictures.name(file, at)
        place = folder / name
        if not os.path.lexists(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            if self.images == "copy" or not pictures.is_plain(file):
                place.write_bytes(pictures.content(file, pixels))
            else:
                place.symlink_to(file)
        return name


@dataclass(frozen=True)
class ShardTarget(Target):
    """Base class of a format that holds the images, in shards of about equal size.

    Attributes:
        shard_mb: megabytes after which the next shard starts.

    Raises:
        UserError: `shard_mb` is not positive.
    """

    options: ClassVar[tuple[str, ...]] = ("shard_mb",)
    shard_mb: int = 500

    def __post_init__(self) -> None:
        """Check the option."""
        if self.shard_mb < 1:
            raise UserError(
                f"--shard_mb {self.shard_mb}: give an integer number of megabytes, 1 or more"
            )

    @property
    def shard_bytes(self) -> int:
        """Bytes after which the next shard starts."""
        return self.shard_mb * 1_000_000


def write_list(records: Iterable[dict[str, Any]], handle: TextIO) -> None:
    """Write a JSON list, one record per line."""
    handle.write("[")
    for number, record in enumerate(records):
        handle.write(",\n" if number else "\n")
        handle.write(json.dumps(record, ensure_ascii=False))
    handle.write("\n]\n")


def questions(turns: Sequence[Turn]) -> list[tuple[str, str]]:
    r"""Return questions and answers, with `<image>\n` before the question of the image only.

    Of a record with several images each `<image>` stands where the record has it.
    """
    if any(turn.images_at for turn in turns):
        return [(put_in(turn.question, turn.images_at), turn.answer) for turn in turns]
    texts = [(turn.question, turn.answer) for turn in turns]
    place = image_place(turns)
    question, answer = texts[place]
    texts[place] = (f"{IMAGE}\n{question}" if question else IMAGE, answer)
    return texts
