"""What every encoder does: conversations and images to a model's batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from presel_lightning.models.chat import Asked, Shown
from presel_lightning.records import Turn

Batch = dict[str, Any]


Part = dict[str, Any]
"""A sample on its way into a batch; what is in it is the encoder's own affair."""


BLACK = Image.new("RGB", (64, 64))
"""What a vision tower looks at where there is nothing to see."""


DUMMY = (Turn("a", "a"),)


Files = Path | Sequence[Path]
"""The image file of a conversation, or those of several images, in order."""


def files_in(files: Files | None) -> list[Path]:
    """Image files of a conversation, in order; none of a text-only one."""
    if files is None:
        return []
    return [files] if isinstance(files, Path) else list(files)


SIDES = ("with_question", "without_question")
"""The two inputs of the IRS."""


TEXT = "without_image"
"""A third input: the conversation without its image."""


class SampleEncoder(Protocol):
    """What datasets and benchmarks ask of a model's way to read conversations."""

    @property
    def takes_several(self) -> bool:
        """Whether a conversation may have several images."""

    def sample(self, turns: Sequence[Turn], image: Shown) -> Part:
        """Prepare one conversation to be trained on; a text-only one has no image."""

    def batch(self, parts: list[Part]) -> Batch:
        """Inputs of the model with labels (B, L), -100 outside the answers; right padding.

        Where no part has an image, `blank` is what shows a black one; see `answer_losses`.
        """

    def pair(self, turns: Sequence[Turn], image: Shown) -> Part:
        """Prepare one conversation with and without its questions."""

    def pair_batch(self, parts: list[Part]) -> Batch:
        """Both inputs (`SIDES`: tokens, mask, labels), and beside them what shows their images.

        `prefix` is the number of tokens that all rows share at the front; 0 where they do not.
        """

    def length(self, turns: Sequence[Turn], image: Files | None) -> int:
        """Tokens of a sample as `batch` holds it; an image is not decoded."""

    def pair_length(self, turns: Sequence[Turn], image: Files) -> int:
        """Tokens that a pair takes; the image is not decoded."""

    def cut(self, turns: Sequence[Turn], image: Files | None) -> tuple[int, int] | None:
        """Answer tokens kept and written of a sample that is too long; None of any other.

        An image is not decoded.
        """

    def prompts(self, asked: Sequence[Asked]) -> Batch:
        """Inputs to be continued with an answer; left padding."""

    def prompt_length(self, turns: Sequence[Turn], image: Files) -> int:
        """Tokens of a prompt that ends in the question of the last turn; nothing is decoded."""

    def stop_ids(self) -> list[int]:
        """Tokens that end an answer."""
