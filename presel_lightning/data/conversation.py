"""Conversations in LLaVA form: checked, taken apart into turns, and written out as prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from presel_lightning.records import Turn

IMAGE = "<image>"
ROLES = ("human", "gpt")
SYSTEMS = ("system", "system_prompt")
"""Fields of a system prompt, the first that is not empty."""


class InvalidRecordError(Exception):
    """A record that cannot be used.

    Attributes:
        problem: its kind, as `problems.csv` has it.
    """

    def __init__(self, problem: str, detail: str) -> None:
        super().__init__(detail)
        self.problem = problem


def image_of(record: dict[str, Any]) -> str | None:
    """Path of a record's image; None where it has no `image` key (null counts as none).

    Raises:
        InvalidRecordError: it has several images, or something that is no path.
    """
    image = record.get("image")
    if image is None or (isinstance(image, str) and image):
        return image
    if isinstance(image, list):
        raise InvalidRecordError(
            "several_images", f"`image` is a list of {len(image)}; give one path"
        )
    raise InvalidRecordError("image_not_a_path", f"`image` is {image!r:.80}")


def system_of(record: Mapping[str, Any]) -> str:
    """System prompt of a record; empty where it brings none."""
    texts = (record.get(name) for name in SYSTEMS)
    return next((text for text in texts if isinstance(text, str) and text.strip()), "")


def is_text_only(record: dict[str, Any]) -> bool:
    """Whether a record has no image and speaks of none; a faulty one is a problem instead."""
    if record.get("image") is not None:
        return False
    try:
        return bool(parse(record))
    except InvalidRecordError:
        return False


def parse(record: dict[str, Any]) -> tuple[Turn, ...]:
    """Take a record's conversation apart; no turns where there is no instruction yet.

    As LLaVA does, every `<image>` is taken out of a question, wherever it stands and however
    often: the image is shown at the front of the question that held it; of several, the first.

    Raises:
        InvalidRecordError: the conversation is not one, or does not fit the record's image.
    """
    image = image_of(record)
    entries = record.get("conversations")
    if entries is None:
        return ()
    if not isinstance(entries, list):
        raise InvalidRecordError(
            "conversations_not_a_list", f"`conversations` is a {type(entries).__name__}"
        )
    texts = [_text(entry, number) for number, entry in enumerate(entries, start=1)]
    if len(texts) % 2:
        raise InvalidRecordError(
            "turn_without_answer", f"question {len(texts) // 2 + 1} has no answer"
        )
    questions, answers = texts[::2], texts[1::2]
    _check_answers(answers)
    if texts:
        _check_image_tokens(image, questions)
    place = next((number for number, text in enumerate(questions) if IMAGE in text), 0)
    pairs = zip(questions, answers, strict=True)
    system = system_of(record)
    return tuple(
        Turn(
            without_image_token(question),
            answer,
            image_here=number == place > 0,
            system="" if number else system,
        )
        for number, (question, answer) in enumerate(pairs)
    )


def _text(entry: object, number: int) -> str:
    """Text of an entry whose role is the one that is due."""
    if not isinstance(entry, dict) or not isinstance(entry.get("value"), str):
        raise InvalidRecordError("bad_turn", f"entry {number} is no object with a text `value`")
    role = entry.get("from")
    if role not in ROLES:
        raise InvalidRecordError(
            "unknown_role", f"entry {number} is from {role!r:.40}; known: human, gpt"
        )
    due = ROLES[(number - 1) % 2]
    if role != due:
        raise InvalidRecordError(
            "roles_not_alternating", f"entry {number} is from {role}, not {due}"
        )
    text: str = entry["value"]
    return text


def _check_answers(answers: list[str]) -> None:
    for number, answer in enumerate(answers, start=1):
        if not answer.strip():
            raise InvalidRecordError("empty_answer", f"answer {number} is empty")
        if IMAGE in answer:
            raise InvalidRecordError("image_token_in_answer", f"answer {number} holds {IMAGE}")


def _check_image_tokens(image: str | None, questions: list[str]) -> None:
    shown = any(IMAGE in question for question in questions)
    if shown and image is None:
        raise InvalidRecordError(
            "image_token_without_image", f"{IMAGE} in the text but no `image` key"
        )
    if image is not None and not shown:
        raise InvalidRecordError(
            "image_without_token", f"an `image` key but no {IMAGE} in any question"
        )


def without_image_token(question: str) -> str:
    """Take every `<image>` out of a question, and the space around what is left."""
    return question.replace(IMAGE, "").strip() if IMAGE in question else question
