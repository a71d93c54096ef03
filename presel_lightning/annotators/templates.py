"""Prompts for the annotator, by task."""

from __future__ import annotations

import re
from collections.abc import Mapping

DEFAULT = "default"

SEEN = "Rely on what can be seen; do not guess names, places or dates."

TEMPLATES = {
    DEFAULT: (
        "Write one question that a person looking at this image may well ask, and its answer. The "
        f"question must need the image to be answered. Answer in one to three sentences. {SEEN}"
    ),
    "vqa": (
        "Write one specific question about the objects, attributes, positions or actions in this "
        f"image, and its answer in a single word or a short phrase. {SEEN}"
    ),
    "choice": (
        "Write one question about this image with four options, A to D, each on a line of its own, "
        "of which exactly one is right. End the question with: Answer with the option's letter "
        f"from the given choices directly. The answer is that letter alone. {SEEN}"
    ),
    "ocr": (
        "Write one question that can be answered only by reading text in this image, and its "
        "answer, quoting the text exactly as it is written. If there is no legible text, ask "
        "whether there is any, and answer that there is none."
    ),
    "caption": (
        "Write a request for a description of this image, and the description: the main objects, "
        f"what they look like, where they are and what happens. {SEEN}"
    ),
    "reasoning": (
        "Write one question about this image that takes several steps to answer, such as why "
        "something is so, what may happen next or what follows from it; and its answer, which "
        f"names what is seen, then concludes. {SEEN}"
    ),
    "count": (
        "Write one question about how many of some object this image shows, and its answer, a "
        f"number. Choose objects that can be counted without doubt. {SEEN}"
    ),
    "grounding": (
        "Write one question about where some object of this image is, telling it apart from all "
        "others, and its answer in words (left, right, above, behind, next to). "
        f"{SEEN}"
    ),
    "conversation": (
        "Write a conversation of three questions about this image and their answers, the later "
        f"questions following on the earlier. {SEEN}"
    ),
}
"""Prompts by kind of task."""

KINDS = (
    ("choice", r"choice|multiple|aokvqa|a-okvqa|scienceqa|mcq"),
    ("caption", r"\w*caps|caption|detail|descri"),
    ("ocr", r"ocr|text(?!ure)|doc|chart|infographic"),
    ("reasoning", r"reason|complex|why|math|logic"),
    ("count", r"count(?!r)|number"),
    ("grounding", r"ground|refcoco|region|bbox|position|location"),
    ("conversation", r"conversation|dialog|chat"),
    ("vqa", r"\w*vqa|gqa|qa|question|presence|attribute|colou?r|shape"),
)
"""Kind of a task by how a word of its name begins, first match wins."""


def kind_of(task: str) -> str:
    """Infer the kind of a task from its name; `default` where nothing matches."""
    name = task.lower()
    found = (kind for kind, start in KINDS if re.search(rf"(?<![a-z])(?:{start})", name))
    return next(found, DEFAULT)


def prompt_for(task: str, templates: Mapping[str, str] | None = None) -> str:
    """Return the prompt of a task's images.

    It is the first of these that exists: the user's template of that task, of its kind (`vqa`,
    `choice`, `ocr`, `caption`, `reasoning`, `count`, `grounding`, `conversation`), the user's
    `default`, the shipped template of its kind.

    Args:
        task: name of the task.
        templates: the user's templates.
    """
    own = templates or {}
    kind = kind_of(task)
    return next((own[name] for name in (task, kind, DEFAULT) if name in own), TEMPLATES[kind])
