"""First sense of a word in WordNet, with the base forms that its documentation describes (morphy)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from pathlib import Path

from presel_lightning.errors import UserError

ENDINGS = {
    "noun": {
        "s": [""],
        "ses": ["s"],
        "ves": ["f"],
        "xes": ["x"],
        "zes": ["z"],
        "ches": ["ch"],
        "shes": ["sh"],
        "men": ["man"],
        "ies": ["y"],
    },
    "verb": {"s": [""], "ies": ["y"], "es": ["e", ""], "ed": ["e", ""], "ing": ["e", ""]},
    "adj": {"er": ["", "e"], "est": ["", "e"]},
    "adv": {},
}
"""Endings of inflected forms, and what stands there in base forms; parts of speech in the order in
which they are asked."""


@cache
def first_offset(folder: str) -> Callable[[str], int | None]:
    """Return the function from a word to the offset of its first sense; None for an unknown word.

    Args:
        folder: `index.*` and `*.exc` of WordNet 3.0, such as Debian's `wordnet-base` installs in
            /usr/share/wordnet.

    Raises:
        UserError: a file is missing.
    """
    try:
        parts = [(ENDINGS[part], *_read(Path(folder), part)) for part in ENDINGS]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"--wordnet {folder}: no WordNet there ({error}); Debian's package wordnet-base "
            "installs one in /usr/share/wordnet"
        ) from error

    @lru_cache(maxsize=1 << 20)
    def offset(word: str) -> int | None:
        word = word.lower()
        for endings, senses, exceptions in parts:
            form = next(_known_forms(word, endings, senses, exceptions), None)
            if form is not None:
                return senses[form]
        return None

    return offset


def _read(folder: Path, part: str) -> tuple[dict[str, int], dict[str, list[str]]]:
    """Offset of the first sense of each word, and irregular forms."""
    senses = {}
    with (folder / f"index.{part}").open(encoding="utf-8") as lines:
        for line in lines:
            if not line.startswith(" "):
                # lemma, part, number of senses, number p of pointers, p pointers, 2 counts, offsets
                words = line.split()
                senses[words[0]] = int(words[6 + int(words[3])])
    with (folder / f"{part}.exc").open(encoding="utf-8") as lines:
        exceptions = {words[0]: words[1:] for line in lines if (words := line.split())}
    return senses, exceptions


def _known_forms(
    word: str,
    endings: dict[str, list[str]],
    senses: dict[str, int],
    exceptions: dict[str, list[str]],
) -> Iterator[str]:
    """Forms of a word that have senses: itself, then irregular ones, else those by endings."""
    if word in senses:
        yield word
    if word in exceptions:
        forms = exceptions[word]
    else:
        forms = [
            word.removesuffix(old) + new
            for old, news in endings.items()
            if word.endswith(old)
            for new in news
        ]
    yield from (form for form in forms if form in senses)
