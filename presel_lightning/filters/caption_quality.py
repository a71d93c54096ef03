"""`caption_quality`: a quality score, and a caption that is no file name, number or stock phrase."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np

from presel_lightning.errors import UserError
from presel_lightning.filters.captions import per_text
from presel_lightning.filters.rule import FAILS, TEXT, Limit, Names, Rows, Rule
from presel_lightning.filters.scored import Scored, as_scores, rounded

LETTERS = 1000
"""Characters of a caption that are compared with the listed captions."""
ENDINGS = (".jpeg", ".jpg", ".png", ".gif")
DIVIDER = re.compile(r"[ \-_.,]")
ROMAN = frozenset("ii iii iv v vi vii viii ix".split())  # noqa: SIM905
PHRASES = ("image", "photo", "picture", "logo", "untitled", "thumbnail", "no description")
PREFIXES = ("img", "image", "dsc", "dscn", "dscf", "photo", "picture", "pic", "logo", "screenshot")
SUFFIXES = ("image", "photo", "picture", "logo", "thumbnail", "thumb")


@dataclass(frozen=True)
class CaptionQuality(Scored):
    """A quality score from a threshold on, with a caption that says something.

    The caption, in lower case, is no stock phrase; without the ending of an image file and one
    stock prefix and suffix it has a word of two ASCII letters or more that is no roman numeral, not
    up to two letters among three or more other characters, and does not change between letters and
    digits twice or more in four or more characters. The first 1000 characters are not in the file
    of captions that are known to be empty words.

    The lists below are short ones of our own; the published lists lie in Open-Qwen2VL's repository,
    and files of them give the published result.

    Source: Open-Qwen2VL, `reward_quality_score` (column `quality_score`) and `dfn_clip_score`
    (column `dfn_clipscore`).

    Args:
        threshold: scores from this on are kept.
        fraction: or this part of the pool.
        ties: `exact` or `published`.
        column: of the score.
        listed: text file of captions that are refused, one a line.
        phrases: text file of stock phrases, one a line.
        prefixes: text file of stock prefixes, in the order in which they are tried.
        suffixes: text file of stock suffixes.
    """

    column: str = "quality_score"
    listed: str | None = None
    phrases: str | None = None
    prefixes: str | None = None
    suffixes: str | None = None

    def columns(self) -> Sequence[Names]:
        """Score and caption."""
        return (self.column,), TEXT

    def scores(self, rows: Rows) -> np.ndarray:
        """The score."""
        return as_scores(rows.column((self.column,)))

    def cut(self, rows: Rows) -> float:
        """The threshold in the precision of the column."""
        return rounded(float(self.threshold or 0), rows.column((self.column,)))

    def verdicts(self, rows: Rows, limits: Mapping[Rule, Limit]) -> np.ndarray:
        """The score first, then the caption."""
        found = super().verdicts(rows, limits)
        left = np.flatnonzero(found != FAILS)
        listed = frozenset(lines(self.listed, ()))
        phrases = frozenset(lines(self.phrases, PHRASES))
        prefixes, suffixes = lines(self.prefixes, PREFIXES), lines(self.suffixes, SUFFIXES)

        def says_something(text: str) -> bool:
            lower = text.lower()
            stock = lower in phrases or lower[:LETTERS] in listed
            return not stock and has_word(lower, prefixes, suffixes)

        captions = per_text(rows.take(left).column(TEXT), says_something)
        found[left] = np.minimum(found[left], captions)
        return found


def has_word(text: str, prefixes: Sequence[str] = (), suffixes: Sequence[str] = ()) -> bool:
    """Whether a caption in lower case has a word, file endings and stock ends apart."""
    for ending in ENDINGS:
        text = text.replace(ending, "")
    prefix = next((p for p in prefixes if text.startswith(p)), "")
    text = text.removeprefix(prefix)
    suffix = next((s for s in suffixes if text.endswith(s)), "")
    return any(map(is_word, DIVIDER.split(text.removesuffix(suffix))))


def is_word(token: str) -> bool:
    """Whether a token is a word rather than a number, a code or a roman numeral.

    >>> [is_word(token) for token in ("dog", "x", "viii", "42", "a1b2", "ab123", "b2b")]
    [True, False, False, False, False, False, True]
    """
    letters = sum("a" <= character <= "z" for character in token)
    if len(token) < 2 or token in ROMAN or letters < 2:
        return False
    if letters <= 2 and len(token) - letters >= 3:
        return False
    kinds = [character.isdigit() for character in token if character.isalnum()]
    switches = sum(a != b for a, b in pairwise(kinds))
    return not (switches >= 2 and len(token) >= 4)


@cache
def lines(path: str | None, default: tuple[str, ...]) -> tuple[str, ...]:
    """Lines of a text file, in lower case.

    Raises:
        UserError: there is no such file.
    """
    if path is None:
        return default
    try:
        found = Path(path).read_text(encoding="utf-8").lower().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"caption_quality: {path}: {error}; give a text file in UTF-8") from error
    return tuple(line for line in found if line)
