"""Soft accuracy of an answer against ten annotators, by the rules of the TextVQA challenge."""

from __future__ import annotations

import re
from collections.abc import Sequence

from presel_lightning.eval.benchmarks.exact_match import ARTICLES, NUMBERS

PUNCTUATION = ';/[]"{}()=+\\_-><@`!'
FULL_CREDIT = 3
"""Number of matching annotators for full credit."""

_STEMS = {
    "n't": "ai are ca could did does do had has have is might must need ought sha should was were "
    "wo would",
    "n't've": "could had might should would",
    "'ve": "could might must not should they we what where who would you",
    "'d": "he how it somebody someone something there they where who you",
    "'d've": "he it she somebody someone something there they we who y'all you",
    "'ll": "how it somebody someone something they what who why y'all you",
    "'re": "there they what why you",
    "'s": "he how somebody someone that there what when where who why",
    "": "ma'am o'clock 'ow's'at 'twas y'all",
}
_KNOWN = [stem + ending for ending, stems in _STEMS.items() for stem in stems.split()]
CONTRACTIONS = {
    whole[:place] + whole[place + 1 :]: whole
    for whole in _KNOWN
    for place, character in enumerate(whole)
    if character == "'"
}
"""Contractions of the challenge, by their forms without one apostrophe."""


def normalise_vqa(text: str) -> str:
    """Normalize an answer as the TextVQA challenge does.

    Lower case; commas and question marks are removed, and a possessive is separated ("cat's" is
    "cat 's"); a punctuation mark that is next to a space anywhere in the answer is removed, any
    other becomes a space; periods are removed unless a digit follows; number words up to ten become
    digits ("none" is 0); articles are removed; a missing apostrophe of a contraction is restored.

    It differs from `normalise` in commas, in the two rules for punctuation, and in that an answer of
    articles alone becomes empty.

    Source: the EvalAI answer processor of facebookresearch/mmf (pythia/tasks/processors.py), which
    LLaVA's llava/eval/m4c_evaluator.py uses.
    """
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    text = re.sub(r"[\n\t]", " ", text).strip()
    gone = "".join(mark for mark in PUNCTUATION if f"{mark} " in text or f" {mark}" in text)
    spaces = "".join(mark for mark in PUNCTUATION if mark not in gone)
    text = text.translate(str.maketrans(spaces, " " * len(spaces), gone))
    text = re.sub(r"\.(?!\d)", "", text)
    words = [NUMBERS.get(word, word) for word in text.split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def soft_accuracy(answer: str, people: Sequence[str]) -> float:
    r"""Compute the credit of an answer against those of several annotators.

    .. math:: \frac{1}{n} \sum_{i=1}^{n} \min\Big(1, \frac{m_{-i}}{3}\Big)

    with :math:`m_{-i}` the number of annotators other than i with this answer, after
    `normalise_vqa`. Of ten annotators, four matches give 1, three 0.9, two 0.6, one 0.3.

    Source: visualqa.org/evaluation, accuracy averaged over all sets of nine of ten annotators.
    """
    given = normalise_vqa(answer)
    same = [normalise_vqa(person) == given for person in people]
    others = [sum(same) - matches for matches in same]
    return sum(min(1.0, count / FULL_CREDIT) for count in others) / len(people)
