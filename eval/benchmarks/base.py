"""The interface of a benchmark."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from presel_lightning.records import Turn


@dataclass(frozen=True, slots=True)
class Item:
    """One question of a benchmark.

    Attributes:
        uid: unique in the benchmark, independent of the order of the records.
        task: group that the score is averaged over.
        image: image file, checked to be decodable.
        history: earlier turns of the conversation with their expected answers.
        answer: expected answer.
        more: the image files behind the first, where there are several; the questions then hold `<image>`
            where each stands.
    """

    uid: str
    task: str
    image: Path
    history: tuple[Turn, ...]
    question: str
    answer: str
    more: tuple[Path, ...] = ()

    @property
    def images(self) -> list[Path]:
        """All its image files, in order."""
        return [self.image, *self.more]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answered to one question of a benchmark that has no `Item`s.

    Attributes:
        item: name of the question.
        task: group of the question.
        question: its text; empty where there is none.
        expected: the expected answer; empty where it is no text.
        prediction: the model's answer.
        credit: of the prediction, 0 to 1; None where a single answer has none.
    """

    item: str
    task: str
    question: str
    expected: str
    prediction: str
    credit: float | None


@dataclass(frozen=True)
class Score:
    """Score of a model on a benchmark.

    The credits are used for intervals. Each list has one entry per item, in a fixed order. Where
    they are kept, `score` is `scale` times their mean: over all items, or over the means of tasks.

    Attributes:
        score: in percent (0 to 100).
        tasks: score of each task.
        n: number of items.
        items: credit of each item, 0 to 1.
        item_tasks: task of each item, where `score` is the mean over tasks.
        item_weights: weight of each item in the mean; None means 1.
        item_units: resampling unit of each item, such as its image.
        item_ids: name of each item.
        scale: score at which every credit is 1.
        right: credit of each answer, 0 to 1, where `items` are no credits of single answers.
        answers: what was answered, of a benchmark that queries the model itself; on the first process.
    """

    score: float
    tasks: dict[str, float]
    n: int
    items: list[float] | None = None
    item_tasks: list[str] | None = None
    item_weights: list[float] | None = None
    item_units: list[str] | None = None
    item_ids: list[str] | None = None
    scale: float = 100.0
    right: list[float] | None = None
    answers: list[Answer] | None = None

    def answer_credits(self, n: int) -> list[float] | None:
        """Return the credit of each of n answers; None where there is none for single answers."""
        found = self.items if self.right is None else self.right
        return found if found is not None and len(found) == n else None

    def kept(self) -> dict[str, Any]:
        """Return the credits as JSON; empty where there are none."""
        if self.items is None:
            return {}
        names = ("item_ids", "items", "item_tasks", "item_weights", "item_units")
        lists = {name: found for name in names if (found := getattr(self, name)) is not None}
        return {**lists, "scale": self.scale}


class BenchmarkTask(ABC):
    """Base class of a benchmark: its items and its metric, in percent, higher is better.

    Attributes:
        name: key of the benchmark in `benchmark.json`.
        max_new_tokens: maximum tokens of an answer.
    """

    name: str
    max_new_tokens: int

    @abstractmethod
    def fingerprint(self) -> Any:  # noqa: ANN401 - any JSON value
        """Return what defines the items and the metric, as JSON; contents, never paths."""

    @abstractmethod
    def items(self) -> list[Item]:
        """Return all items, in a fixed order."""

    @abstractmethod
    def score(self, predictions: list[str]) -> Score:
        """Score one answer per item, in the order of `items()`."""

    def skipped(self) -> dict[str, str]:
        """Return the parts that cannot be scored here, with the reasons."""
        return {}

    def examine(self) -> str:
        """Describe the benchmark in a few words; raise `UserError` where it cannot be read."""
        return f"{len(self.items()):,} questions"
