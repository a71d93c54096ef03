"""Exact match per task, after the answer normalization of the VQA evaluation; in percent."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

ARTICLES = frozenset({"a", "an", "the"})
NUMBERS = {
    word: str(digit)
    for digit, word in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    )
} | {"none": "0"}

# Only forms that are no other English word without their apostrophe (so not its, were, well, ill).
# fmt: off
_NEGATED = (
    "ai", "are", "ca", "could", "did", "does", "do", "had", "has", "have", "is", "might",
    "must", "need", "should", "was", "were", "wo", "would",
)
_OTHERS = (
    "i'm", "i've", "you're", "you've", "they're", "they've", "we've", "he's", "she's",
    "that's", "there's", "here's", "what's", "where's", "who's", "how's", "let's",
    "could've", "should've", "would've", "might've", "must've", "y'all", "o'clock",
)
# fmt: on
CONTRACTIONS = {
    whole.replace("'", ""): whole
    for whole in (*("".join(pair) for pair in product(_NEGATED, ["n't"])), *_OTHERS)
}


def normalise(text: str) -> str:
    """Normalize an answer as the VQA evaluation does.

    Lower case; thousands commas are removed ("1,000" is "1000"); a period is kept only before a
    digit; other punctuation than apostrophe and colon becomes a space; number words up to ten
    become digits ("none" is 0); articles are removed; a missing apostrophe of a contraction is
    restored ("dont" is "don't").

    One step differs from the VQA evaluation: an answer of articles alone keeps them, so that the
    option "A" of a multiple-choice question is not an empty answer.

    Source: the list of steps on visualqa.org/evaluation.
    """
    text = text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    text = re.sub(r"(?<=\d),(?=\d)", "", text)
    text = re.sub(r"\.(?!\d)", "", text)
    text = re.sub(r"""[;/\[\]"{}()=+\\_\-><@`,?!]""", " ", text)
    words = text.split()
    kept = [word for word in words if word not in ARTICLES] or words
    return " ".join(CONTRACTIONS.get(word, NUMBERS.get(word, word)) for word in kept)


class ExactMatch(Metric):
    r"""Share of correct answers after `normalise`, per task and averaged, in percent.

    .. math::
        \text{macro} = \frac{100}{M} \sum_{t=1}^{M} \frac{c_t}{n_t}, \qquad
        \text{micro} = 100 \, \frac{\sum_t c_t}{\sum_t n_t}

    with :math:`c_t` correct answers among :math:`n_t` of task :math:`t`. Tasks without an answer
    are left out; the averages are NaN before any update.

    Args:
        tasks: every possible task; each rank needs the same list in the same order.

    Example:
        >>> metric = ExactMatch(["color", "count"])
        >>> metric.update(["Red.", "2"], ["red", "three"], ["color", "count"])
        >>> metric.compute()["macro"]
        tensor(50.)
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    correct: Tensor
    total: Tensor

    def __init__(self, tasks: Sequence[str], **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self.tasks = list(dict.fromkeys(tasks))
        self._row = {task: row for row, task in enumerate(self.tasks)}
        zeros = torch.zeros(len(self.tasks), dtype=torch.long)  # (M,)
        self.add_state("correct", default=zeros, dist_reduce_fx="sum")
        self.add_state("total", default=zeros.clone(), dist_reduce_fx="sum")

    def update(
        self, predictions: Sequence[str], targets: Sequence[str], tasks: Sequence[str]
    ) -> None:
        """Count a batch of answers.

        Raises:
            ValueError: the three lists differ in length, or a task is not in `tasks`.
        """
        if not len(predictions) == len(targets) == len(tasks):
            raise ValueError(
                f"Expected one target and one task a prediction but got {len(predictions)} "
                f"predictions, {len(targets)} targets, {len(tasks)} tasks"
            )
        if unknown := sorted(set(tasks) - set(self._row)):
            raise ValueError(f"Expected tasks among {self.tasks} but got {unknown}")
        rows = torch.tensor([self._row[task] for task in tasks], dtype=torch.long)  # (B,)
        right = torch.tensor(
            [normalise(guess) == normalise(gold) for guess, gold in zip(predictions, targets)],
            dtype=torch.bool,
        )  # (B,)
        size = len(self.tasks)
        self.total += torch.bincount(rows, minlength=size).to(self.total.device)
        self.correct += torch.bincount(rows[right], minlength=size).to(self.correct.device)

    def compute(self) -> dict[str, Any]:
        """Compute percentages: `macro` and `micro` as tensors, `tasks` as one tensor per task."""
        seen = self.total > 0
        shares = 100.0 * self.correct / self.total.clamp(min=1)  # (M,)
        return {
            "macro": shares[seen].mean(),
            "micro": 100.0 * self.correct.sum() / self.total.sum(),
            "tasks": {task: shares[row] for task, row in self._row.items() if seen[row]},
        }
