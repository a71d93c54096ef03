"""The score that a judge's reply begins with."""

from __future__ import annotations

import re

LAST = 100
"""Highest score of the scale."""
SCORE = re.compile(r"[^\d-]*(\d{1,3})(?!\d)")


def parse_score(reply: str) -> int | None:
    r"""Read the first number of a reply's first line that has one; None where it is no score.

    A number above 100 or below 0 is no score, and is not clipped to one.

    >>> [parse_score(text) for text in ("85", "85\nA dog.", " 100", "10,", "N/A", "")]
    [85, 85, 100, 10, None, None]
    """
    line = next((line for line in reply.splitlines() if line.strip()), "")
    found = SCORE.match(line)
    score = int(found[1]) if found else None
    return None if score is None or score > LAST else score
