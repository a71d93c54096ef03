"""Reading of chat completions: the instruction inside thinking, prose and code fences."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from presel_lightning.annotators.journal import Conversation
from presel_lightning.annotators.matching import all_shown, check, from_turns
from presel_lightning.data.conversation import InvalidRecordError
from presel_lightning.records import Turn


class Malformed(Exception):
    """A reply in another format than requested; a retry may succeed.

    Attributes:
        reason: what is wrong with it, for the model.
    """

    def __init__(self, reason: str, cure: str = "") -> None:
        super().__init__(f"{reason}; {cure}" if cure else reason)
        self.reason = reason


class Refused(Exception):
    """The model or the service refuses to answer."""


# numbers keep their digits; control characters inside strings are common in replies of models
_DECODER = json.JSONDecoder(strict=False, parse_int=str, parse_float=str)
_MARK = re.compile(
    r"(?P<open><(?:think|thinking|thought|reasoning)>|◁think▷)"
    r"|(?P<close></(?:think|thinking|thought|reasoning)>|◁/think▷"
    r"|<\|channel\|>final<\|message\|>)"
    r'|(?P<json>(?:\[\s*)?\{\s*")',
    re.IGNORECASE,
)
PLACEHOLDER = "..."
"""Text of a question and an answer in the form that the system prompt shows."""


def conversation_of(reply: object, images: Sequence[str]) -> Conversation:
    """Extract and validate the instruction of a reply.

    The text may hold thinking (`<think>…</think>`, or text up to a lone `</think>`), prose and
    code fences around the JSON. The JSON is `{"turns": […]}`, a list of turns, or one turn; of
    several, the last valid one outside the thinking counts.

    Args:
        reply: decoded body.
        images: paths of the image, or of several.

    Raises:
        Malformed: it holds no valid instruction.
        Refused: the model refuses to answer.
    """
    text = text_of(reply)
    reason = f"no JSON with a list of turns in it: {_shown(text)}"
    for candidate in reversed(candidates(text)):
        try:
            conversation: Conversation = all_shown(_conversation(candidate), len(images))
            check(images, conversation)
            return conversation
        except InvalidRecordError as error:
            reason = str(error)
    raise Malformed(reason)


def text_of(reply: object) -> str:
    """Return the text of a reply: its content, or its reasoning where the content is empty.

    Raises:
        Malformed: it is missing or truncated.
        Refused: the model refuses to answer.
    """
    try:
        choice = reply["choices"][0]  # type: ignore[index]
        message = choice["message"]
        content, refusal = message.get("content"), message.get("refusal")
        end = choice.get("finish_reason")
    except (LookupError, TypeError, AttributeError) as error:
        raise Malformed("the reply is not a chat completion") from error
    refusal = refusal or _joined(content, "refusal")
    if refusal or end == "content_filter":
        raise Refused(str(refusal or "stopped by a content filter")[:200])
    if end == "length":
        raise Malformed("truncated", "raise annotator.init_args.max_tokens")
    # a server with the wrong reasoning parser puts the whole answer there
    fields = (content, message.get("reasoning_content"), message.get("reasoning"))
    text = next((text for field in fields if (text := _joined(field, "text")).strip()), "")
    if not text:
        raise Malformed("the reply has no text")
    return text


def candidates(text: str) -> list[object]:
    """Find the JSON values of a text that may be an instruction, in their order.

    Those inside a closed part of thinking are left out. Those behind an opening tag that is never
    closed count only where there are no others.
    """
    found: list[object] = []
    opened: int | None = None  # number of values before the open part of thinking
    for kind, value in _marks(text):
        if kind == "json":
            found.append(value)
        elif kind == "close":
            del found[opened or 0 :]
            opened = None
        elif opened is None:
            opened = len(found)
    return _whole(found[:opened] or found)


def _marks(text: str) -> Iterator[tuple[str, object]]:
    """Iterate over the tags of thinking and the JSON values outside each other."""
    at = begin = 0
    while (mark := _MARK.search(text, at)) is not None:
        at = mark.start() + 1
        if mark.lastgroup != "json":
            at = begin = mark.end()
            yield str(mark.lastgroup), None
            continue
        try:
            value, end = _DECODER.raw_decode(text, mark.start())
        except (ValueError, RecursionError):
            continue
        if _is_turns(value):
            broken = not _wrapped(value) and _in_broken_list(text[begin : mark.start()])
            at = begin = end
            yield "json", _BROKEN if broken else value


_BROKEN = object()
"""A turn inside a list that is not valid JSON."""


def _in_broken_list(before: str) -> bool:
    """Return whether the text before a turn begins a list."""
    return before.rstrip().endswith("[") or '"turns"' in before


def _whole(found: list[object]) -> list[object]:
    """Return the candidates; none where turns stand apart, so that some would be lost."""
    turns = [value for value in found if isinstance(value, dict) and "turns" not in value]
    if any(value is _BROKEN for value in found) or len(turns) > 1:
        return [value for value in found if _wrapped(value)]
    return found


def _wrapped(value: object) -> bool:
    return isinstance(value, list) or (isinstance(value, dict) and "turns" in value)


def _is_turns(value: object) -> bool:
    """Return whether a JSON value has the form of an instruction, or of a turn."""
    entries = value if isinstance(value, list) else [value]
    return bool(entries) and all(
        isinstance(entry, dict) and ("turns" in entry or {"question", "answer"} <= set(entry))
        for entry in entries
    )


def _conversation(value: object) -> Conversation:
    """Convert the JSON of an instruction to LLaVA form.

    Raises:
        InvalidRecordError: it is not a list of turns with text.
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict):
        value = value.get("turns", value)
    entries = [value] if isinstance(value, dict) else value
    if not isinstance(entries, list):
        raise InvalidRecordError("bad_turn", "`turns` is not a list")
    turns = [_turn(entry, number) for number, entry in enumerate(entries, start=1)]
    if turns and all(turn == Turn(PLACEHOLDER, PLACEHOLDER) for turn in turns):
        raise InvalidRecordError("empty_answer", "it repeats the form instead of filling it in")
    return from_turns(turns)


def _turn(entry: object, number: int) -> Turn:
    if not isinstance(entry, dict):
        raise InvalidRecordError("bad_turn", f"turn {number} is no object")
    question = _value(entry.get("question"), f"question {number}")
    return Turn(question, _value(entry.get("answer"), f"answer {number}"))


def _value(value: object, name: str) -> str:
    """Return a text, or a number or boolean as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, str):
        raise InvalidRecordError("bad_turn", f"{name} is no text")
    return value


def _joined(content: object, kind: str) -> str:
    """Join the parts of a content that have some kind of text; a string is one of kind `text`."""
    if isinstance(content, str):
        return content if kind == "text" else ""
    parts = content if isinstance(content, list) else []
    texts = (part.get(kind) for part in parts if isinstance(part, dict) and not _thinks(part))
    return "".join(text for text in texts if isinstance(text, str))


def _thinks(part: dict[Any, Any]) -> bool:
    return str(part.get("type")).startswith(("thinking", "reasoning"))


def _shown(text: str) -> str:
    text = text.strip()
    return repr(text if len(text) <= 80 else f"{text[:40]} … {text[-40:]}")
