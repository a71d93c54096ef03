"""Soft accuracy of an answer against ten people's, as the TextVQA challenge counts it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from presel_lightning.eval.benchmarks.exact_match import ARTICLES, NUMBERS

PUNCTUATION = ';/[]"{}()=+\\_-><@`!'
AGREEING = 3
"""People whose agreement makes an answer wholly right."""

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
"""Contractions that the challenge knows, by their forms that lack one apostrophe."""


def normalise_vqa(text: str) -> str:
    """Bring an answer into the form that the TextVQA challenge compares.

    Lower case; commas and question marks go, and a possessive stands apart ("cat's" is "cat 's");
    other punctuation goes where it stands at a space anywhere in the answer, and is a space
    otherwise; periods go unless a digit follows; number words up to ten are digits ("none" is 0);
    articles go; contractions get a missing apostrophe back.

    It differs from `normalise` in commas, in the two ways of punctuation, and in that an answer of
    articles alone is empty.

    Source: the EvalAI answer processor of facebookresearch/mmf (pythia/tasks/processors.py), which
    LLaVA's llava/eval/m4c_evaluator.py takes over.
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
    r"""Share of credit that an answer gets from the answers of several people.

    .. math:: \frac{1}{n} \sum_{i=1}^{n} \min\Big(1, \frac{m_{-i}}{3}\Big)

    with :math:`m_{-i}` the people other than i who gave this answer, all in normal form. Of ten
    people, four who agree give 1, three 0.9, two 0.6, one 0.3.

    Source: visualqa.org/evaluation, accuracy averaged over all sets of nine of ten annotators.
    """
    given = normalise_vqa(answer)
    same = [normalise_vqa(person) == given for person in people]
    others = [sum(same) - agrees for agrees in same]
    return sum(min(1.0, count / AGREEING) for count in others) / len(people)
