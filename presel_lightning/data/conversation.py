"""Conversations in LLaVA form: checked, taken apart into turns, and written out as prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
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


def images_of(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Paths of a record's images, in order; none where it has no `image` key (null counts as none).

    Raises:
        InvalidRecordError: one of them is no path.
    """
    image = record.get("image")
    if isinstance(image, str) and image:  # most records
        return (image,)
    if image is None:
        return ()
    images = tuple(image) if isinstance(image, list) else (image,)
    if not images or not all(isinstance(one, str) and one for one in images):
        raise InvalidRecordError("image_not_a_path", f"`image` is {image!r:.80}")
    return images


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
    often: the image is shown at the front of the question that held it; of several questions, of
    the first. Of a record with several images each `<image>` is the place of one, in order.

    Raises:
        InvalidRecordError: the conversation is not one, or does not fit the record's images.
    """
    images = images_of(record)
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
        _check_image_tokens(images, questions)
    if len(images) > 1:
        return _interleaved(questions, answers, system_of(record))
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


def _interleaved(questions: list[str], answers: list[str], system: str) -> tuple[Turn, ...]:
    """Turns of a conversation about several images, each of which keeps its place in the text."""
    turns = []
    for number, (question, answer) in enumerate(zip(questions, answers, strict=True)):
        text, places = taken_out(question)
        turns.append(Turn(text, answer, system="" if number else system, images_at=places))
    return tuple(turns)


def taken_out(question: str) -> tuple[str, tuple[int, ...]]:
    """A question without its `<image>`s, and the offsets in it where they stood.

    The space at both ends goes, and so does what stands between two images and is nothing but space.
    """
    pieces = [piece if piece.strip() else "" for piece in question.split(IMAGE)]
    text = "".join(pieces)
    front, length = len(text) - len(text.lstrip()), len(text.strip())
    ends = accumulate(map(len, pieces[:-1]))
    return text.strip(), tuple(min(max(end - front, 0), length) for end in ends)


def put_in(question: str, places: Sequence[int]) -> str:
    r"""A question with `<image>` at some offsets; at its front each on a line of its own."""
    text, start = "", 0
    for place in places:
        text += question[start:place]
        text += IMAGE if place else f"{IMAGE}\n"
        start = place
    return (text + question[start:]).rstrip("\n") if places else question


def _check_image_tokens(images: Sequence[str], questions: list[str]) -> None:
    shown = any(IMAGE in question for question in questions)
    if shown and not images:
        raise InvalidRecordError(
            "image_token_without_image", f"{IMAGE} in the text but no `image` key"
        )
    if images and not shown:
        raise InvalidRecordError(
            "image_without_token", f"an `image` key but no {IMAGE} in any question"
        )
    if len(images) > 1:
        n_shown = sum(question.count(IMAGE) for question in questions)
        if n_shown != len(images):
            raise InvalidRecordError(
                "image_token_count", f"{n_shown} {IMAGE} in the questions for {len(images)} images"
            )


def without_image_token(question: str) -> str:
    """Take every `<image>` out of a question, and the space around what is left."""
    return question.replace(IMAGE, "").strip() if IMAGE in question else question
