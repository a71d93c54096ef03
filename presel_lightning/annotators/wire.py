"""Requests and replies of an OpenAI-style chat endpoint: an image and a prompt in, turns out."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from presel_lightning.annotators.journal import Conversation
from presel_lightning.annotators.matching import check, from_turns
from presel_lightning.data.conversation import InvalidRecordError
from presel_lightning.data.images import LIMIT, open_rgb
from presel_lightning.data.pixels import Pixels
from presel_lightning.records import Turn

FORM = (
    "You write training data for a vision-language assistant. Reply with JSON alone, in this form: "
    '{"turns": [{"question": "...", "answer": "..."}]}. One entry for each question and its '
    "answer, in their order; nothing before or after the JSON."
)
"""System prompt of every request."""

TEXT = {"type": "string"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "turns": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"question": TEXT, "answer": TEXT},
                "required": ["question", "answer"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["turns"],
    "additionalProperties": False,
}
"""JSON schema of a reply."""

RESPONSE_FORMATS: dict[str, dict[str, Any] | None] = {
    "json_schema": {
        "type": "json_schema",
        "json_schema": {"name": "instruction", "strict": True, "schema": SCHEMA},
    },
    "json_object": {"type": "json_object"},
    "none": None,
}
"""`response_format` of a request; not every server supports all of them."""


class Malformed(Exception):
    """A reply in another format than requested; a retry may succeed."""


class Refused(Exception):
    """The model or the service refuses to answer."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a request and its reply as reported by the service; None where not reported."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


def image_url(path: Path, max_side: int, quality: int, pixels: Pixels = "as_shown") -> str:
    """Encode an image as a JPEG data URL, downscaled to `max_side` pixels on its longer side."""
    image = open_rgb(path, LIMIT, pixels)  # data.max_pixels has been applied to the pool
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def messages(prompt: str, url: str) -> list[dict[str, Any]]:
    """Build the messages of a request about one image."""
    return [
        {"role": "system", "content": FORM},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": url}},
                {"type": "text", "text": prompt},
            ],
        },
    ]


def usage_of(reply: object) -> Usage:
    """Read the token usage of a reply."""
    usage = reply.get("usage") if isinstance(reply, dict) else None
    counts = usage if isinstance(usage, dict) else {}
    names = ("prompt_tokens", "completion_tokens")
    return Usage(*(counts[n] if isinstance(counts.get(n), int) else None for n in names))


def conversation_of(reply: object, image: str) -> Conversation:
    """Extract and validate the instruction of a reply.

    Args:
        reply: decoded body.
        image: path of the image.

    Raises:
        Malformed: it holds no valid instruction.
        Refused: the model refuses to answer.
    """
    text = _content(reply)
    try:
        turns = json.loads(_without_fence(text))["turns"]
        conversation = from_turns(
            [Turn(_text(turn["question"]), _text(turn["answer"])) for turn in turns]
        )
        check(image, conversation)
    except (ValueError, KeyError, TypeError) as error:
        raise Malformed(f"not the requested JSON: {text[:80]!r}") from error
    except InvalidRecordError as error:
        raise Malformed(str(error)) from error
    return conversation


def _content(reply: object) -> str:
    """Return the text of a reply.

    Raises:
        Malformed: it is missing or truncated.
        Refused: the model refuses to answer.
    """
    try:
        choice = reply["choices"][0]  # type: ignore[index]
        message = choice["message"]
        text, refusal, end = (
            message.get("content"),
            message.get("refusal"),
            choice.get("finish_reason"),
        )
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise Malformed("the reply is not a chat completion") from error
    if refusal or end == "content_filter":
        raise Refused(str(refusal or "stopped by a content filter")[:200])
    if end == "length":
        raise Malformed("truncated; raise annotator.init_args.max_tokens")
    return _text(text)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise Malformed("the reply has no text")
    return value


def _without_fence(text: str) -> str:
    """Strip the Markdown fence that some models put around JSON."""
    text = text.strip()
    if text.startswith("```"):
        text = text.partition("\n")[2].rpartition("```")[0]
    return text
