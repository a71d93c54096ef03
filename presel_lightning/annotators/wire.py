"""Requests of an OpenAI-style chat endpoint, and the token usage of its replies."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from presel_lightning.data.images import LIMIT, open_rgb
from presel_lightning.data.pixels import Pixels

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


def with_reason(prompt: str, reason: str) -> str:
    """Add to a prompt why the previous reply could not be read; an empty reason adds nothing."""
    if not reason:
        return prompt
    return (
        f"{prompt}\n\nYour previous reply could not be read: {reason}. Reply again, with the JSON "
        "alone."
    )


def messages(prompt: str, *urls: str) -> list[dict[str, Any]]:
    """Build the messages of a request about one image, or several."""
    return [
        {"role": "system", "content": FORM},
        {
            "role": "user",
            "content": [
                *({"type": "image_url", "image_url": {"url": url}} for url in urls),
                {"type": "text", "text": prompt},
            ],
        },
    ]


def usage_of(reply: object) -> Usage:
    """Read the token usage of a reply."""
    usage = reply.get("usage") if isinstance(reply, dict) else None
    counts = usage if isinstance(usage, dict) else {}
    names = ("prompt_tokens", "completion_tokens")
    return Usage(*(_count(counts.get(name)) for name in names))


def _count(value: object) -> int | None:
    """Return a number of tokens; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value < float("inf") else None
