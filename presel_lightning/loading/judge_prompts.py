"""What a judge is asked about an image and its caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from presel_lightning.errors import UserError

CAPTION = "Text Caption: {caption}"
"""What every prompt begins with, behind the image; `{caption}` is the caption."""

SCALE = (
    "Rate the {aspect} of this caption with a whole number from 1 to 100. A higher number means better "
    "{aspect}. Use the whole range from 0 to 100, and do not round to multiples of 5 or 10. Write "
    "the number alone on the first line, and your reasons on the next."
)
"""How to answer; `{aspect}` is the name of the metric in words."""

CRITERIA = {
    "image_text_matching": (
        "Judge how well the caption fits the image. It should name the main objects and what stands "
        "out about them, say how they belong together, and leave nothing important out. What the "
        "image does not show lowers the rating."
    ),
    "object_detail_fulfillment": (
        "Judge how much detail the caption gives on the objects in the image: their color, size, "
        "position, shape, material and other properties that can be seen. Details that are wrong "
        "lower the rating."
    ),
    "caption_text_quality": (
        "Judge the caption as a text, whatever the image shows: grammar, choice of words, fluency, "
        "ease of reading, a fitting length, and an order of its parts that can be followed."
    ),
    "semantic_understanding": (
        "Judge what the caption adds to what the eye can see: who a person is, which place, event, "
        "work or product is shown, when it was, why things happen, and how they are related. A "
        "caption that only names what can be seen gets a low rating."
    ),
}
"""Criteria of each metric, in our own words.

Source: MLM-Filter (arXiv 2403.02677), four metrics of image-text pairs.
"""


def prompts_of(
    metrics: Sequence[str] | None = None, own: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """What follows the caption in the prompt of each metric.

    Args:
        metrics: names; all by default.
        own: whole prompts instead of ours, or further metrics, by name.

    Raises:
        UserError: a metric has no prompt.
    """
    known = {
        name: f"{text} {SCALE.format(aspect=name.replace('_', ' '))}"
        for name, text in CRITERIA.items()
    }
    known |= {name: str(text).strip() for name, text in (own or {}).items()}
    chosen = list(metrics or known)
    if unknown := [name for name in chosen if name not in known]:
        raise UserError(
            f"--metrics {', '.join(unknown)}: no such metric; choose from {', '.join(known)}, or give its "
            "prompt in --prompts"
        )
    return {name: known[name] for name in chosen}


def read_prompts(path: Path) -> dict[str, str]:
    """Read prompts of metrics from YAML, `{metric: prompt}`.

    Raises:
        UserError: it is none.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"--prompts {path}: {' '.join(str(error).split())}") from error
    if (
        not isinstance(found, dict)
        or not found
        or not all(isinstance(t, str) for t in found.values())
    ):
        raise UserError(f"--prompts {path}: give YAML of the form {{metric: prompt}}")
    return {str(name): text for name, text in found.items()}
