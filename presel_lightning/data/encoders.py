"""From a conversation and its image to a model's batch: LLaVA-1.5's way, and a chat model's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image

from presel_lightning.data.batches import labelled_text, text_batch
from presel_lightning.data.conversation import AUTO, TEMPLATES, without_image_token
from presel_lightning.data.encoding import Encoded, encode, image_token_id
from presel_lightning.data.images import FORMATS
from presel_lightning.errors import UserError
from presel_lightning.functional.token_loss import IGNORE
from presel_lightning.models.chat import (
    Asked,
    Chat,
    ChatProcessor,
    chat_batch,
    cut,
    prompt_batch,
)
from presel_lightning.models.processor import Processor
from presel_lightning.records import Turn, image_first, image_place

Batch = dict[str, Any]
Part = dict[str, Any]
"""A sample on its way into a batch; what is in it is the encoder's own affair."""

BLACK = Image.new("RGB", (64, 64))
"""What a vision tower looks at where there is nothing to see."""
DUMMY = (Turn("a", "a"),)
SIDES = ("with_question", "without_question")
"""The two inputs of the IRS."""


class SampleEncoder(Protocol):
    """What datasets and benchmarks ask of a model's way to read conversations."""

    def sample(self, turns: Sequence[Turn], image: Image.Image | None) -> Part:
        """Prepare one conversation to be trained on; a text-only one has no image."""

    def batch(self, parts: list[Part]) -> Batch:
        """Inputs of the model with labels (B, L), -100 outside the answers; right padding.

        Where no part has an image, `blank` is what shows a black one; see `answer_losses`.
        """

    def pair(self, turns: Sequence[Turn], image: Image.Image) -> Part:
        """Prepare one conversation with and without its questions."""

    def pair_batch(self, parts: list[Part]) -> Batch:
        """Both inputs (`SIDES`: tokens, mask, labels), and beside them what shows their images.

        `prefix` is the number of tokens that all rows share at the front; 0 where they do not.
        """

    def pair_length(self, turns: Sequence[Turn], image: Path) -> int:
        """Tokens that a pair takes; the image is not decoded."""

    def prompts(self, asked: Sequence[Asked]) -> Batch:
        """Inputs to be continued with an answer; left padding."""

    def prompt_length(self, turns: Sequence[Turn], image: Path) -> int:
        """Tokens of a prompt that ends in the question of the last turn; nothing is decoded."""

    def stop_ids(self) -> list[int]:
        """Tokens that end an answer."""


@dataclass(frozen=True)
class Encoder:
    """Writes conversations by a template, as LLaVA-1.5 reads them; an image takes fixed places.

    Attributes:
        template: name of the conversation template.
        processor: tokenizer and image processor of the model.
        max_length: tokens of a sample, image included; what is longer is cut at the end.
    """

    template: str
    processor: Processor
    max_length: int

    def __call__(
        self, turns: Sequence[Turn], *, with_question: bool = True, image: bool = True
    ) -> Encoded:
        """Encode one conversation, or its answers alone."""
        template, p = TEMPLATES[self.template], self.processor
        rendered = template.render(turns, with_question=with_question, image=image)
        try:
            return encode(rendered, p.tokenizer, p.n_image_tokens, self.max_length)
        except UserError:
            if not image_place(turns):
                raise
        # a later image that would be cut is shown first
        return self(image_first(turns), with_question=with_question, image=image)

    def sample(self, turns: Sequence[Turn], image: Image.Image | None) -> Part:
        """Tokens and pixels."""
        if image is None:
            return {"encoded": self(turns, image=False)}
        return {"encoded": self(turns), "pixels": self.processor.pixels(image)}

    def batch(self, parts: list[Part]) -> Batch:
        """Padded to (B, L), with pixels (I, 3, H, W) of the images among them."""
        text = labelled_text([part["encoded"] for part in parts], self._pad_id)
        pixels = [part["pixels"] for part in parts if "pixels" in part]
        if pixels:
            return {**text, "pixel_values": torch.stack(pixels)}
        return {**text, "blank": {"pixel_values": self.processor.pixels(BLACK)[None]}}

    def pair(self, turns: Sequence[Turn], image: Image.Image) -> Part:
        """One image with both inputs, and how many tokens these share at the front."""
        first, second, shared = self._both(turns)
        return {
            "with_question": first,
            "without_question": second,
            "prefix": shared,
            "pixels": self.processor.pixels(image),
        }

    def pair_batch(self, parts: list[Part]) -> Batch:
        """Two labelled batches of the same images."""
        prefixes = {part["prefix"] for part in parts}
        return {
            "prefix": prefixes.pop() if len(prefixes) == 1 else 0,
            "pixel_values": torch.stack([part["pixels"] for part in parts]),
            **{side: labelled_text([part[side] for part in parts], self._pad_id) for side in SIDES},
        }

    def pair_length(self, turns: Sequence[Turn], image: Path) -> int:
        """What is shared once, and both continuations."""
        first, second, shared = self._both(turns)
        return len(first.input_ids) + len(second.input_ids) - shared

    def prompts(self, asked: Sequence[Asked]) -> Batch:
        """Left-padded prompts (B, L) with their images."""
        template, p = TEMPLATES[self.template], self.processor
        texts = [template.prompt(history, question) for history, question, _ in asked]
        ids = [encode(text, p.tokenizer, p.n_image_tokens).input_ids for text in texts]
        return {
            **text_batch(ids, self._pad_id, left=True),
            "pixel_values": torch.stack([p.pixels(image) for _, _, image in asked if image]),
        }

    def prompt_length(self, turns: Sequence[Turn], image: Path) -> int:
        """An image takes as many places whatever its size."""
        template, p = TEMPLATES[self.template], self.processor
        text = template.prompt(turns[:-1], turns[-1].question)
        return len(encode(text, p.tokenizer, p.n_image_tokens).input_ids)

    def stop_ids(self) -> list[int]:
        """The template's mark, where the tokenizer has it as one token."""
        found = self.processor.tokenizer(TEMPLATES[self.template].stop, add_special_tokens=False)
        ids: list[int] = found["input_ids"]
        return ids if len(ids) == 1 else []

    @property
    def _pad_id(self) -> int:
        pad_id: int = self.processor.tokenizer.pad_token_id
        return pad_id

    def _both(self, turns: Sequence[Turn]) -> tuple[Encoded, Encoded, int]:
        first, second = self(turns), self(turns, with_question=False)
        return first, second, shared_prefix(first, second, image_token_id(self.processor.tokenizer))


@dataclass(frozen=True)
class ChatEncoder:
    """Writes conversations by the model's own chat template and has its processor make batches.

    Attributes:
        processor: the model's own.
        max_length: tokens of a sample, image included; what is longer is cut at the end.
    """

    processor: ChatProcessor
    max_length: int

    def __call__(self, turns: Sequence[Turn], *, with_question: bool = True) -> Encoded:
        """Encode one conversation without its image, or its answers alone."""
        made = chat_batch(self.processor.own, [(turns, None)], with_question=with_question)
        ids, labels = (
            made[name][0, : self.max_length].tolist() for name in ("input_ids", "labels")
        )
        return Encoded(ids, labels)

    def sample(self, turns: Sequence[Turn], image: Image.Image | None) -> Part:
        """The conversation with its image: a processor takes a batch at once."""
        return {"chat": (turns, image)}

    pair = sample

    def batch(self, parts: list[Part]) -> Batch:
        """All that the model asks for, under its processor's names."""
        made = self._side(parts, with_question=True)
        if any(image is not None for _, image in (part["chat"] for part in parts)):
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

    def pair_length(self, turns: Sequence[Turn], image: Path) -> int:
        """Both inputs whole."""
        places = places_of(self.processor, size_of(image))
        texts = [n_tokens(self.processor, turns, side == SIDES[0]) for side in SIDES]
        return sum(min(text + places, self.max_length) for text in texts)

    def prompts(self, asked: Sequence[Asked]) -> Batch:
        """Left-padded, with all that the model asks for."""
        plain = [
            (history, without_image_token(question), image) for history, question, image in asked
        ]
        return prompt_batch(self.processor.own, plain)

    def prompt_length(self, turns: Sequence[Turn], image: Path) -> int:
        """The places of an image of this size, and the text with an empty answer."""
        return places_of(self.processor, size_of(image)) + n_tokens(self.processor, turns, True)

    def stop_ids(self) -> list[int]:
        """None but the model's own."""
        return []

    def _side(self, parts: list[Part], *, with_question: bool) -> Batch:
        chats = [part["chat"] for part in parts]
        try:
            return self._cut(chats, with_question=with_question)
        except UserError:
            if not any(image_place(turns) for turns, _ in chats):
                raise
        return self._cut([self._with_whole_image(*c) for c in chats], with_question=with_question)

    def _cut(self, chats: Sequence[Chat], *, with_question: bool) -> Batch:
        own = self.processor.own
        batch = chat_batch(own, chats, with_question=with_question)
        return cut(batch, self.max_length, own.image_token_id)

    def _with_whole_image(self, turns: Sequence[Turn], image: Image.Image | None) -> Chat:
        """A conversation; a later image that would be cut is shown first, whatever is beside it."""
        try:
            self._cut([(turns, image)], with_question=True)
        except UserError:
            return image_first(turns), image
        return turns, image


def encoder_of(template: str, processor: Processor | ChatProcessor, max_length: int) -> Any:  # noqa: ANN401
    """The encoder of a model (a `SampleEncoder`).

    Raises:
        UserError: a template of LLaVA's for a model that has one of its own.
    """
    if isinstance(processor, Processor):
        return Encoder("vicuna_v1" if template == AUTO else template, processor, max_length)
    if template != AUTO:
        raise UserError(
            f"data.template {template} is LLaVA-1.5's, and the model of {processor.checkpoint} "
            f"writes conversations by a chat template of its own; set data.template to {AUTO}"
        )
    return ChatEncoder(processor, max_length)


def not_by_token(batch: Batch) -> Batch:
    """What of a chat model's batch is not laid out by tokens: it shows the images."""
    shape = batch["input_ids"].shape
    return {name: value for name, value in batch.items() if value.shape != shape}


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of an image, from its header."""
    with Image.open(path, formats=FORMATS) as image:
        size: tuple[int, int] = image.size
    return size


@lru_cache(maxsize=4096)
def places_of(processor: ChatProcessor, size: tuple[int, int]) -> int:
    """Tokens that an image of some size takes, marks around it included; found on a blank one."""
    shown = chat_batch(processor.own, [(DUMMY, Image.new("RGB", size))])
    return int(shown["input_ids"].shape[1]) - n_tokens(processor, DUMMY, True)


def n_tokens(processor: ChatProcessor, turns: Sequence[Turn], with_question: bool) -> int:
    """Tokens of a conversation without its image."""
    made = chat_batch(processor.own, [(turns, None)], with_question=with_question)
    return int(made["input_ids"].shape[1])


def shared_prefix(first: Encoded, second: Encoded, image: int) -> int:
    """Tokens up to and including the image, where two inputs agree on them; else 0.

    Args:
        first: the input with the question.
        second: the input without it.
        image: id of the image token.
    """
    if image not in first.input_ids:
        return 0
    end = len(first.input_ids) - first.input_ids[::-1].index(image)
    # no answer yet, and none to be foretold from the prefix's last place
    unlabelled = {*first.labels[: end + 1], *second.labels[: end + 1]} == {IGNORE}
    goes_on = end < min(len(first.input_ids), len(second.input_ids))
    alike = first.input_ids[:end] == second.input_ids[:end]
    return end if alike and unlabelled and goes_on else 0
