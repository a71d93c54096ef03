"""Room for text in a chart: widths, shortened labels, and the ticks of an axis.

All lengths are units of a chart, which is 400 wide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

FONT = 12.0
"""Largest font size of the page's style sheet."""
LINE = 15.0
"""Height of a line of text."""
WIDTHS = {
    character: width
    for characters, width in (
        (" .,:;'|!ijlI[]()/\\-", 0.42),
        ("mwMW%@…", 1.0),
        ("+±=<>~#&", 0.86),
        ("abcdefghknopqrstuvxyz0123456789_", 0.65),
    )
    for character in characters
}
"""Width of characters over the font size, in the widest of the common sans-serif fonts."""
UPPER, OTHER = 0.8, 1.05
"""Width of other characters: ASCII, which are the capitals, and the rest."""
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0, 20.0)
"""Distances of ticks, times a power of ten."""


def number(value: float) -> str:
    """Format a value: three significant digits, or an integer."""
    value += 0.0  # no minus before a zero
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"


def text_width(text: str) -> float:
    """Bound the width of a text from above."""
    return FONT * sum(WIDTHS.get(c, UPPER if c.isascii() else OTHER) for c in text)


def fitted(text: str, room: float) -> str:
    """Shorten a text to a width by leaving out its middle: names mostly differ at the ends."""
    if text_width(text) <= room:
        return text
    for kept in range(len(text) - 1, 1, -1):
        short = f"{text[: (kept + 1) // 2]}…{text[-(kept // 2) :]}"
        if text_width(short) <= room:
            return short
    return "…"


def ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Return evenly spaced round numbers around a range.

    Args:
        low: lower end of the range; the first tick is at most that.
        high: upper end of the range; the last tick is at least that.
        most: maximum number of steps between ticks.
    """
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    for factor in STEPS:
        step = factor * power
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        last = max(last, first + 1)
        if last - first <= most:
            break
    return [float(f"{step * i:.12g}") for i in range(first, last + 1)]


def tick_labels(marks: Sequence[float]) -> list[str]:
    """Format ticks with the fewest decimals that are exact for all of them."""
    for digits in range(7):
        if all(abs(round(mark, digits) - mark) <= 1e-9 * abs(mark) for mark in marks):
            return [f"{mark:,.{digits}f}" for mark in marks]
    return [f"{mark:.3g}" for mark in marks]


def range_labels(marks: Sequence[float]) -> list[str]:
    """Format values of a range by three digits of its span, so that its ends differ."""
    span = max(marks) - min(marks)
    digits = max(0, 2 - math.floor(math.log10(span))) if span > 0 else 3
    texts = [f"{round(mark, digits) + 0.0:,.{digits}f}" for mark in marks]
    return [text.rstrip("0").rstrip(".") if "." in text else text for text in texts]


def ticks_within(low: float, high: float, room: float) -> tuple[list[float], list[str]]:
    """Return ticks around a range, and their labels, as many as have room beside one another.

    Args:
        low: lower end of the range.
        high: upper end of the range.
        room: length of the axis.
    """
    for most in (4, 3, 2, 1):
        marks = ticks(low, high, most)
        texts = tick_labels(marks)
        if (len(marks) - 1) * (max(map(text_width, texts)) + 8) <= room:
            break
    return marks, texts
