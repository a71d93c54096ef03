"""Conversations and images to LLaVA-1.5's batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from PIL import Image

from presel_lightning.data.conversation import IMAGE, without_image_token
from presel_lightning.errors import UserError
from presel_lightning.functional.token_loss import IGNORE
from presel_lightning.loading.encoder import BLACK, SIDES, Batch, Files, Part, files_in
from presel_lightning.loading.padding import labelled_text, text_batch
from presel_lightning.loading.templates import TEMPLATES
from presel_lightning.loading.tokens import UNCUT, Encoded, encode, image_token_id
from presel_lightning.models.chat import Asked, Shown, images_in
from presel_lightning.models.literal import control_marks, escape, escape_turns
from presel_lightning.models.llava_processor import Processor
from presel_lightning.records import Turn, image_first, image_place

ONE = (
    "the template of model.checkpoint takes one image; give a model that takes several, such as "
    "Qwen2.5-VL"
)
"""What to do about several images."""


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
    takes_several: ClassVar[bool] = False

    @property
    def has_system(self) -> bool:
        """Whether a conversation's own system prompt has a place."""
        return TEMPLATES[self.template].has_system

    def __call__(
        self, turns: Sequence[Turn], *, with_question: bool = True, image: bool = True
    ) -> Encoded:
        """Encode one conversation, or its answers alone."""
        template, p = TEMPLATES[self.template], self.processor
        written = escape_turns(turns, self._marks)
        rendered = template.render(written, with_question=with_question, image=image)
        try:
            return encode(rendered, p.tokenizer, p.n_image_tokens, self.max_length)
        except UserError:
            if not image_place(turns):
                raise
        # a later image that would be cut is shown first
        return self(image_first(turns), with_question=with_question, image=image)

    def sample(self, turns: Sequence[Turn], image: Shown) -> Part:
        """Tokens and pixels."""
        if (shown := one_image(image)) is None:
            return {"encoded": self(turns, image=False)}
        return {"encoded": self(turns), "pixels": self.processor.pixels(shown)}

    def batch(self, parts: list[Part]) -> Batch:
        """Padded to (B, L), with pixels (I, 3, H, W) of the images among them."""
        text = labelled_text([part["encoded"] for part in parts], self._pad_id)
        pixels = [part["pixels"] for part in parts if "pixels" in part]
        if pixels:
            return {**text, "pixel_values": torch.stack(pixels)}
        return {**text, "blank": {"pixel_values": self.processor.pixels(BLACK)[None]}}

    def pair(self, turns: Sequence[Turn], image: Shown) -> Part:
        """One image with both inputs, and how many tokens these share at the front."""
        first, second, shared = self._both(turns)
        return {
            "with_question": first,
            "without_question": second,
            "prefix": shared,
            "pixels": self.processor.pixels(one_image(image)),  # type: ignore[arg-type]  # it has one
        }

    def pair_batch(self, parts: list[Part]) -> Batch:
        """Two labelled batches of the same images."""
        prefixes = {part["prefix"] for part in parts}
        return {
            "prefix": prefixes.pop() if len(prefixes) == 1 else 0,
            "pixel_values": torch.stack([part["pixels"] for part in parts]),
            **{side: labelled_text([part[side] for part in parts], self._pad_id) for side in SIDES},
        }

    def length(self, turns: Sequence[Turn], image: Files | None) -> int:
        """An image takes as many places whatever its size."""
        return len(self(turns, image=bool(files_in(image))).input_ids)

    def pair_length(self, turns: Sequence[Turn], image: Files) -> int:
        """What is shared once, and both continuations."""
        first, second, shared = self._both(turns)
        return len(first.input_ids) + len(second.input_ids) - shared

    def cut(self, turns: Sequence[Turn], image: Files | None) -> tuple[int, int] | None:
        """Only a text with more bytes than tokens are left is encoded: none takes more of them."""
        shown = bool(files_in(image))
        text = TEMPLATES[self.template].render(turns, with_question=True, image=shown).text
        extra = self.processor.n_image_tokens * shown + 2 * len(turns) + 8  # marks, leading spaces
        if len(text.encode(errors="surrogatepass")) + extra <= self.max_length:
            return None
        whole = replace(self, max_length=UNCUT)(turns, image=shown)
        if len(whole.input_ids) <= self.max_length:
            return None
        return self(turns, image=shown).n_labels, whole.n_labels

    def prompts(self, asked: Sequence[Asked]) -> Batch:
        """Left-padded prompts (B, L) with their images."""
        p = self.processor
        ids = [self.prompt_ids(question, history) for history, question, _ in asked]
        return {
            **text_batch(ids, self._pad_id, left=True),
            "pixel_values": torch.stack(
                [p.pixels(shown) for _, _, image in asked if (shown := one_image(image))]
            ),
        }

    def prompt_length(self, turns: Sequence[Turn], image: Files) -> int:
        """An image takes as many places whatever its size."""
        return len(self.prompt_ids(turns[-1].question, turns[:-1]))

    def prompt_ids(self, question: str | Turn, history: Sequence[Turn] = ()) -> list[int]:
        """Tokens of a prompt about one image that ends in a question."""
        text = self._prompt(history, question)
        return encode(text, self.processor.tokenizer, self.processor.n_image_tokens).input_ids

    def prompt_batch(self, ids: Sequence[Sequence[int]]) -> Batch:
        """Left-padded prompts (B, L), or parts of them."""
        return text_batch(ids, self._pad_id, left=True)

    def stop_ids(self) -> list[int]:
        """The template's mark, where the tokenizer has it as one token."""
        found = self.processor.tokenizer(TEMPLATES[self.template].stop, add_special_tokens=False)
        ids: list[int] = found["input_ids"]
        return ids if len(ids) == 1 else []

    @property
    def _pad_id(self) -> int:
        pad_id: int = self.processor.tokenizer.pad_token_id
        return pad_id

    @property
    def _marks(self) -> tuple[str, ...]:
        return control_marks(self.processor.tokenizer, [IMAGE])

    def _prompt(self, history: Sequence[Turn], question: str | Turn) -> str:
        question = question.question if isinstance(question, Turn) else question
        asked = escape(without_image_token(question), self._marks)
        return TEMPLATES[self.template].prompt(escape_turns(history, self._marks), asked)

    def _both(self, turns: Sequence[Turn]) -> tuple[Encoded, Encoded, int]:
        first, second = self(turns), self(turns, with_question=False)
        return first, second, shared_prefix(first, second, image_token_id(self.processor.tokenizer))


def one_image(image: Shown) -> Image.Image | None:
    """The image of a conversation, if it has one.

    Raises:
        UserError: it has several.
    """
    images = images_in(image)
    if len(images) > 1:
        raise UserError(ONE)
    return images[0] if images else None


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
    # no answer yet, and none to be predicted from the prefix's last place
    unlabelled = {*first.labels[: end + 1], *second.labels[: end + 1]} == {IGNORE}
    goes_on = end < min(len(first.input_ids), len(second.input_ids))
    alike = first.input_ids[:end] == second.input_ids[:end]
    return end if alike and unlabelled and goes_on else 0
