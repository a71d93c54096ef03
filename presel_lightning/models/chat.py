"""Inputs of models that bring their own processor and chat template (Qwen2.5-VL and others)."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from PIL.Image import new as new_image

from presel_lightning.errors import UserError
from presel_lightning.functional.token_loss import IGNORE
from presel_lightning.models.checkpoint import Checkpoint
from presel_lightning.models.literal import ESCAPE, escape_turns, processor_marks, reading
from presel_lightning.models.own_processor import load_chat_processor
from presel_lightning.records import Turn, image_place, pieces_of, system_prompt

Message = dict[str, Any]
Batch = dict[str, Any]
Shown = Image | Sequence[Image] | None
"""The image of a conversation, or its images, in order."""
Chat = tuple[Sequence[Turn], Shown]
Asked = tuple[Sequence[Turn], str | Turn, Shown]

PIECES = (
    "{% for message in messages %}{% if message.role == 'assistant' %}"
    "{% generation %}{{ message.content }}{% endgeneration %}"
    "{% else %}{{ message.content }}{% endif %}{% endfor %}"
)
"""A chat template for text that is written out already: answers are separated from the rest."""

PROBE = "presel system prompt"
"""A system prompt, to find out whether a template writes one."""


FIRST_PART = re.compile(r"content'?\]?\[0\]")
"""In a chat template that reads the first part of a message, which must then have one."""


@dataclass(frozen=True)
class ChatProcessor:
    """A model's own processor.

    Attributes:
        own: of `load_chat_processor`.
        checkpoint: where it was loaded from.
        images: image processor in the place of its own, if any.
    """

    own: Any
    checkpoint: Checkpoint
    images: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process loads it itself: its class is made when it is loaded."""
        return chat_processor, (self.checkpoint, self.images)

    @property
    def tokenizer(self) -> Any:  # noqa: ANN401
        """Its tokenizer."""
        return self.own.tokenizer

    def save(self, folder: Path) -> None:
        """Write all of it beside the weights."""
        self.own.save_pretrained(folder)


def chat_processor(checkpoint: Checkpoint, images: Any = None) -> ChatProcessor:  # noqa: ANN401
    """Load a model's own processor; see `load_chat_processor`.

    Args:
        checkpoint: of the model.
        images: image processor to use instead of the checkpoint's.
    """
    own = load_chat_processor(checkpoint)
    if images is not None:
        own.image_processor = images
    return ChatProcessor(own, checkpoint, images)


def chat_batch(
    processor: Any,  # noqa: ANN401
    chats: Sequence[Chat],
    *,
    with_question: bool = True,
) -> Batch:
    """Write conversations out by the model's chat template and let its processor make a batch.

    Labels are the answers and the token that ends each. Without questions, a conversation is its
    image, and all answers joined by one space (the second input of the IRS).

    Args:
        processor: of `load_chat_processor`.
        chats: turns with their image, which stands before one of the questions, or with several, which
            stand where `images_at` of the turns says.
        with_question: whether the questions are shown.

    Returns:
        input_ids, attention_mask and labels, all (B, L), pixel_values, and what else the model
        asks for (`image_grid_thw`, `image_sizes`, ...) in shapes of its own.

    Raises:
        UserError: the template cannot tell answers from questions.
    """
    letters = processor_marks(processor)
    written = [
        messages(escape_turns(turns, letters), image, with_question) for turns, image in chats
    ]
    if not takes_system(processor):
        written = [without_system(chat) for chat in written]
    if FIRST_PART.search(processor.chat_template):
        written = [[_with_part(message) for message in chat] for chat in written]
    processor = _reader(processor, written)
    marks = re.search(r"{%-?\s*generation\b", processor.chat_template) is not None
    if not marks:
        written = [pieces(processor, chat) for chat in written]
    batch = processor.apply_chat_template(
        written,
        chat_template=None if marks else PIECES,
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
        return_tensors="pt",
        processor_kwargs=_padded([image for _, image in chats], "right"),
    )
    answer = torch.as_tensor(batch.pop("assistant_masks")).bool()  # (B, L)
    ids = batch["input_ids"]
    # some templates leave the end of a turn out of what they mark
    answer[:, 1:] |= answer[:, :-1] & (ids[:, 1:] == processor.tokenizer.eos_token_id)
    return {**batch, "labels": ids.masked_fill(~answer, IGNORE)}


def prompt_batch(processor: Any, asked: Sequence[Asked]) -> Batch:  # noqa: ANN401
    """What a model is to continue with its answers: left-padded, by the model's chat template.

    Args:
        processor: of `load_chat_processor`.
        asked: earlier turns, the question and the image of each item; of several images the turn of
            the question, whose answer is not read.
    """
    letters = processor_marks(processor)
    written = [
        messages(escape_turns((*history, _asking(question)), letters), image, True)[:-1]
        for history, question, image in asked
    ]
    if not takes_system(processor):
        written = [without_system(chat) for chat in written]
    processor = _reader(processor, written)
    batch = processor.apply_chat_template(
        written,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs=_padded([image for _, _, image in asked], "left"),
    )
    return dict(batch)


def cut(batch: Batch, max_length: int, image_token: int) -> Batch:
    """Keep the first tokens of every row; what the processor made of the images stays whole.

    Args:
        batch: of `chat_batch`.
        max_length: tokens kept.
        image_token: id of the token that an image's places are written with.

    Raises:
        UserError: `max_length` would cut an image.
    """
    ids = batch["input_ids"]
    if (ids[:, max_length:] == image_token).any():
        places = int((ids == image_token).sum(dim=1).max())
        raise UserError(
            f"data.max_length {max_length} is too short for the {places} tokens of an image and "
            "the text before it (of several, of all of them); raise it, or lower the resolution in the checkpoint's "
            "preprocessor_config.json"
        )
    return {
        name: value[:, :max_length] if value.shape == ids.shape else value
        for name, value in batch.items()
    }


def _with_part(message: Message) -> Message:
    """A message that has a part: an empty text where it had none."""
    return message if message["content"] else {**message, "content": [{"type": "text", "text": ""}]}


def _reader(processor: Any, written: Sequence[list[Message]]) -> Any:  # noqa: ANN401
    """The same processor, able to read escaped text where there is some."""
    texts = (
        part.get("text", "") for chat in written for message in chat for part in message["content"]
    )
    if not any(ESCAPE in text for text in texts):
        return processor
    made = copy.copy(processor)
    made.tokenizer = reading(processor.tokenizer)
    return made


def _padded(images: Sequence[Shown], side: str) -> dict[str, Any]:
    """Options of a processor for a batch padded on one side."""
    shown = [images_in(image) for image in images]
    return {"padding": True, "padding_side": side, **({"images": shown} if any(shown) else {})}


def images_in(shown: Shown) -> list[Image]:
    """Images of a conversation, in order; none of a text-only one."""
    if shown is None:
        return []
    return list(shown) if isinstance(shown, Sequence) else [shown]


def _asking(question: str | Turn) -> Turn:
    return question if isinstance(question, Turn) else Turn(question, "")


def messages(turns: Sequence[Turn], image: Shown, with_question: bool) -> list[Message]:
    """A conversation as chat templates want it, with the system prompt that it brings."""
    system = system_prompt(turns)
    if not with_question:
        turns = (Turn("", " ".join(turn.answer for turn in turns)),)
    shown: list[Message] = [{"type": "image"}] * len(images_in(image))
    apart = bool(shown) and any(turn.images_at for turn in turns)
    found: list[Message] = []
    if system:
        found.append({"role": "system", "content": [{"type": "text", "text": system}]})
    place = image_place(turns)
    for number, turn in enumerate(turns):
        asked = [{"type": "text", "text": turn.question}] if turn.question else []
        front = shown if number == place else []
        found.append({"role": "user", "content": _parts(turn) if apart else front + asked})
        found.append({"role": "assistant", "content": [{"type": "text", "text": turn.answer}]})
    return found


def _parts(turn: Turn) -> list[Message]:
    """Texts of a question with the images between them."""
    first, *rest = pieces_of(turn.question, turn.images_at)
    parts: list[Message] = [{"type": "text", "text": first}]
    for piece in rest:
        parts += [{"type": "image"}, {"type": "text", "text": piece}]
    return [part for part in parts if part["type"] == "image" or part["text"]]


def takes_several(processor: Any) -> bool:  # noqa: ANN401
    """Whether a model's chat template and processor take several images: each has its places."""
    return _takes_several(processor, processor.chat_template)


@lru_cache(maxsize=8)
def _takes_several(processor: Any, _: str) -> bool:  # noqa: ANN401
    picture = new_image("RGB", (64, 64))
    try:
        two, three = (
            int((made["input_ids"] == processor.image_token_id).sum())
            for made in (
                chat_batch(processor, [((Turn("?", "!"),), [picture] * n)]) for n in (2, 3)
            )
        )
    except Exception:  # noqa: BLE001 - a processor raises what it likes at more than it takes
        return False
    return two > 0 and 3 * two == 2 * three


def takes_system(processor: Any) -> bool:  # noqa: ANN401
    """Whether a model's chat template writes a system prompt."""
    return _takes_system(processor, processor.chat_template)


@lru_cache(maxsize=8)
def _takes_system(processor: Any, _: str) -> bool:  # noqa: ANN401
    chat = messages((Turn("?", "!", system=PROBE),), None, True)
    try:
        return PROBE in processor.apply_chat_template(chat)
    except Exception:  # noqa: BLE001 - a template raises what it likes at a role that it lacks
        return False


def without_system(chat: list[Message]) -> list[Message]:
    """The messages without a system prompt."""
    return [message for message in chat if message["role"] != "system"]


def pieces(processor: Any, chat: list[Message]) -> list[Message]:  # noqa: ANN401
    """Cut what the template writes into answers (role `assistant`) and all else.

    An answer is what the template writes after its invitation to answer, up to the end of that
    turn, the blanks there apart.

    Raises:
        UserError: the template does not write a conversation from front to back.
    """
    cut: list[Message] = []
    done = ""
    first = 1 if chat[0]["role"] == "system" else 0
    for end in range(first + 2, len(chat) + 1, 2):
        asked = processor.apply_chat_template(chat[: end - 1], add_generation_prompt=True)
        answered = processor.apply_chat_template(chat[:end])
        if not (asked.startswith(done) and answered.startswith(asked)):
            raise UserError(
                f"the chat template of {type(processor).__name__} writes a turn differently once "
                "another follows, so answers cannot be separated from questions; put {% generation %} "
                "marks around the answers in it"
            )
        answer = answered[len(asked) :].rstrip()
        cut.append({"role": "user", "content": asked[len(done) :]})
        cut.append({"role": "assistant", "content": answer})
        done = asked + answer
    return cut
