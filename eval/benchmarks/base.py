"""What a benchmark is to the callback that runs it."""

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
        uid: unique in the benchmark, whatever the order of the records.
        task: group that the score is averaged over.
        image: file, checked to be decodable.
        history: earlier turns of the conversation with their expected answers.
        answer: what is expected.
    """

    uid: str
    task: str
    image: Path
    history: tuple[Turn, ...]
    question: str
    answer: str


@dataclass(frozen=True)
class Score:
    """What a model reached.

    The credits are there for the intervals. Each list has an entry for each item, in an order that
    does not change. Where they are kept, `score` is `scale` times their mean: over all, or over the
    tasks of their means.

    Attributes:
        score: in percent (0 to 100).
        tasks: the same for each task.
        n: number of items.
        items: credit of each item, 0 to 1.
        item_tasks: task of each item, where `score` is the mean over tasks.
        item_weights: weight of each item in the mean; none is 1.
        item_units: what each item hangs on, its image say: items of one unit are drawn together.
        item_ids: name of each item.
        scale: score where every credit is 1.
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

    def kept(self) -> dict[str, Any]:
        """The credits as JSON; nothing where there are none."""
        if self.items is None:
            return {}
        names = ("item_ids", "items", "item_tasks", "item_weights", "item_units")
        lists = {name: found for name in names if (found := getattr(self, name)) is not None}
        return {**lists, "scale": self.scale}


class BenchmarkTask(ABC):
    """Questions with a way to score the answers; scores are percentages, higher is better.

    Attributes:
        name: key of the benchmark in `benchmark.json`.
        max_new_tokens: limit on an answer.
    """

    name: str
    max_new_tokens: int

    @abstractmethod
    def fingerprint(self) -> Any:  # noqa: ANN401 - any JSON value
        """What defines the items and the scoring, as JSON; contents, never paths."""

    @abstractmethod
    def items(self) -> list[Item]:
        """All items, in an order that does not change."""

    @abstractmethod
    def score(self, predictions: list[str]) -> Score:
        """Score one answer an item, in the order of `items()`."""

    def skipped(self) -> dict[str, str]:
        """Parts that cannot be scored here, each with the reason."""
        return {}

    def examine(self) -> str:
        """What there is to score, in words; raises a `UserError` where it cannot be read."""
        return f"{len(self.items()):,} questions"
