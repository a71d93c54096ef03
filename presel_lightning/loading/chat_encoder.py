"""Conversations and images to a chat model's batches, by its own template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from PIL import Image

from presel_lightning.data.conversation import taken_out, without_image_token
from presel_lightning.data.formats import open_image
from presel_lightning.data.pixels import Pixels, shown_size
from presel_lightning.errors import UserError
from presel_lightning.functional.token_loss import IGNORE
from presel_lightning.loading.encoder import (
    BLACK,
    DUMMY,
    SIDES,
    Batch,
    Files,
    Part,
    files_in,
)
from presel_lightning.loading.tokens import UNCUT, Encoded
from presel_lightning.models.chat import (
    Asked,
    Chat,
    ChatProcessor,
    Shown,
    chat_batch,
    cut,
    images_in,
    prompt_batch,
    takes_several,
    takes_system,
)
from presel_lightning.records import Turn, image_first

SMALL = Image.new("RGB", (32, 32))
"""A blank image whose places are counted and taken off again."""


@dataclass(frozen=True)
class ChatEncoder:
    """Writes conversations by the model's own chat template and has its processor make batches.

    Attributes:
        processor: the model's own.
        max_length: tokens of a sample, image included; what is longer is cut at the end.
        pixels: how images are read, for their size.
    """

    processor: ChatProcessor
    max_length: int
    pixels: Pixels = "as_shown"

    @property
    def has_system(self) -> bool:
        """Whether a conversation's own system prompt has a place."""
        return takes_system(self.processor.own)

    @property
    def takes_several(self) -> bool:
        """Whether its template and processor take several images."""
        return takes_several(self.processor.own)

    def __call__(self, turns: Sequence[Turn], *, with_question: bool = True) -> Encoded:
        """Encode one conversation without its image, or its answers alone."""
        made = chat_batch(self.processor.own, [(turns, None)], with_question=with_question)
        ids, labels = (
            made[name][0, : self.max_length].tolist() for name in ("input_ids", "labels")
        )
        return Encoded(ids, labels)

    def sample(self, turns: Sequence[Turn], image: Shown) -> Part:
        """The conversation with its image: a processor takes a batch at once."""
        return {"chat": (turns, image)}

    pair = sample

    def batch(self, parts: list[Part]) -> Batch:
        """All that the model asks for, under its processor's names."""
        made = self._side(parts, with_question=True)
        if any(images_in(image) for _, image in (part["chat"] for part in parts)):
            return made
        return {**made, "blank": not_by_token(chat_batch(self.processor.own, [(DUMMY, BLACK)]))}

    def pair_batch(self, parts: list[Part]) -> Batch:
        """Two batches; what is not laid out by tokens shows the images, and is kept once."""
        found: Batch = {"prefix": 0}
        for side in SIDES:
            made = self._side(parts, with_question=side == SIDES[0])
            shown = not_by_token(made)
            found[side] = {name: value for name, value in made.items() if name not in shown}
            found |= shown
        return found

    def length(self, turns: Sequence[Turn], image: Files | None) -> int:
        """The text, and the places of images of these sizes."""
        return self._length(turns, image, with_question=True)

    def pair_length(self, turns: Sequence[Turn], image: Files) -> int:
        """Both inputs whole."""
        return sum(self._length(turns, image, with_question=side == SIDES[0]) for side in SIDES)

    def _length(self, turns: Sequence[Turn], image: Files | None, *, with_question: bool) -> int:
        sizes = sizes_of(image, self.pixels)
        text = n_tokens(self.processor, turns, with_question, len(sizes))
        return min(text + places_of(self.processor, sizes), self.max_length)

    def cut(self, turns: Sequence[Turn], image: Files | None) -> tuple[int, int] | None:
        """Only what is too long is encoded with an image, a blank one of the same size."""
        sizes = sizes_of(image)
        whole = replace(self, max_length=UNCUT)(turns)
        text = len(whole.input_ids)
        if len(sizes) > 1:  # words that an image divides
            text = n_tokens(self.processor, turns, True, len(sizes))
        if text + places_of(self.processor, sizes) <= self.max_length:
            return None
        shown = [Image.new("RGB", size) for size in sizes]
        labels = self._side([{"chat": (turns, shown)}], with_question=True)["labels"]
        return int((labels != IGNORE).sum()), whole.n_labels

    def prompts(self, asked: Sequence[Asked]) -> Batch:
        """Left-padded, with all that the model asks for."""
        plain = [
            (history, _asked(question, len(images_in(i))), i) for history, question, i in asked
        ]
        return prompt_batch(self.processor.own, plain)

    def prompt_length(self, turns: Sequence[Turn], image: Files) -> int:
        """The places of images of these sizes, and the text with an empty answer."""
        sizes = sizes_of(image, self.pixels)
        return places_of(self.processor, sizes) + n_tokens(self.processor, turns, True)

    def stop_ids(self) -> list[int]:
        """What the template ends an answer with, where that is one token, beside the model's own."""
        labels = self(DUMMY).labels
        said = [label for label in labels if label != IGNORE]
        special = self.processor.tokenizer.added_tokens_decoder
        return said[-1:] if said and said[-1] in special else []

    def _side(self, parts: list[Part], *, with_question: bool) -> Batch:
        chats = [part["chat"] for part in parts]
        try:
            return self._cut(chats, with_question=with_question)
        except UserError:
            if all(image_first(turns) == tuple(turns) for turns, _ in chats):
                raise
        return self._cut([self._with_whole_image(*c) for c in chats], with_question=with_question)

    def _cut(self, chats: Sequence[Chat], *, with_question: bool) -> Batch:
        own = self.processor.own
        batch = chat_batch(own, chats, with_question=with_question)
        return cut(batch, self.max_length, own.image_token_id)

    def _with_whole_image(self, turns: Sequence[Turn], image: Shown) -> Chat:
        """A conversation; a later image that would be cut is shown first, whatever is beside it."""
        try:
            self._cut([(turns, image)], with_question=True)
        except UserError:
            return image_first(turns), image
        return turns, image


def _asked(question: str | Turn, n_images: int) -> str | Turn:
    """A question without `<image>`; of several images the turn that says where they stand."""
    if isinstance(question, Turn):
        return question
    if n_images < 2:
        return without_image_token(question)
    text, places = taken_out(question)
    return Turn(text, "", images_at=places)


def not_by_token(batch: Batch) -> Batch:
    """What of a chat model's batch is not laid out by tokens: it shows the images."""
    shape = batch["input_ids"].shape
    return {name: value for name, value in batch.items() if value.shape != shape}


def size_of(path: Path, pixels: Pixels = "as_shown") -> tuple[int, int]:
    """Width and height of an image as it is read, from its header."""
    with open_image(path) as image:
        return shown_size(image, pixels)


def sizes_of(files: Files | None, pixels: Pixels = "as_shown") -> tuple[tuple[int, int], ...]:
    """Width and height of each image of a conversation, from its header."""
    return tuple(size_of(file, pixels) for file in files_in(files))


@lru_cache(maxsize=4096)
def places_of(processor: ChatProcessor, sizes: tuple[tuple[int, int], ...]) -> int:
    """Tokens that images of some sizes take, marks around them included; found on blank ones."""
    shown = chat_batch(processor.own, [(DUMMY, [Image.new("RGB", size) for size in sizes])])
    return int(shown["input_ids"].shape[1]) - n_tokens(processor, DUMMY, True)


def n_tokens(
    processor: ChatProcessor, turns: Sequence[Turn], with_question: bool, n_images: int = 0
) -> int:
    """Tokens of a conversation without its images; of several, divided as they divide its words."""
    blank = [SMALL] * n_images if n_images > 1 else []
    made = chat_batch(processor.own, [(turns, blank)], with_question=with_question)
    shown = places_of(processor, (SMALL.size,) * len(blank)) if blank else 0
    return int(made["input_ids"].shape[1]) - shown
