"""The selected pictures alone, in a folder for each task."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from presel_lightning.errors import UserError
from presel_lightning.export.selection.source import SelectedSample
from presel_lightning.export.selection.target import ListTarget


@dataclass(frozen=True)
class Images(ListTarget):
    """`TASK/PATH` of every selected image; with instructions or without.

    Attributes:
        images: `copy` or `link`.

    Raises:
        UserError: `images` is neither.
    """

    needs_instruction = False
    images: str = "copy"

    def __post_init__(self) -> None:
        """Check the option."""
        super().__post_init__()
        if self.images == "none":
            raise UserError("--images none: --to images writes the pictures; choose copy or link")

    def write(self, samples: Iterable[SelectedSample], folder: Path, final: Path) -> None:
        """Put each image into the folder of its task."""
        for each in samples:
            for file, inside in zip(each.files, each.inside, strict=True):
                self.put(file, in_task(each.sample.task, inside), folder, each.pixels)


def in_task(task: str, inside: str) -> str:
    """Path of an image below the folder of its task, which it may begin with already.

    >>> in_task("dogs", "dogs/1.jpg"), in_task("vqa", "coco/1.jpg"), in_task("a/..", "1.jpg")
    ('dogs/1.jpg', 'vqa/coco/1.jpg', 'a_../1.jpg')
    """
    name = task.replace("/", "_").replace("\0", "_")
    name = "_" if name in ("", ".", "..") else name
    return inside if inside.startswith(f"{name}/") else f"{name}/{inside}"
