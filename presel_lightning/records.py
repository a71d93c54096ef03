"""Frozen records that travel between the layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

OWN = "presel"
"""Key of a written record that holds our own fields."""


def own_fields(record: Mapping[str, Any]) -> dict[str, Any]:
    """Our own fields of a record that a run wrote; none where it holds none."""
    found = record.get(OWN)
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange of a conversation: what is asked and what is answered.

    Attributes:
        image_here: whether the image is shown with this question rather than the first.
    """

    question: str
    answer: str
    image_here: bool = False


def image_place(turns: Sequence[Turn]) -> int:
    """Number of the turn that shows the image, from 0."""
    return next((number for number, turn in enumerate(turns) if turn.image_here), 0)


def image_first(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """The same turns with the image shown by the first."""
    return tuple(Turn(turn.question, turn.answer) for turn in turns)


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of the pool and, once it has been written, its instruction.

    Attributes:
        uid: 32 hex digits that stay the same when an instruction is added.
        image: path relative to the image root.
        turns: empty where there is no instruction yet.
        record: the record as the annotation file has it.
    """

    uid: str
    id: str
    image: str
    task: str
    turns: tuple[Turn, ...]
    record: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def has_instruction(self) -> bool:
        """Whether somebody has written the instruction of this image."""
        return bool(self.turns)


@dataclass(frozen=True, slots=True)
class Problem:
    """A record that was left out of the pool, and why.

    Attributes:
        file: name of the file that holds it; empty for a folder of images.
        record: its number in that file, from 1, by lines in JSON lines and tables; of a tar with
            the key of the sample behind it.
    """

    id: str
    image: str
    task: str
    problem: str
    detail: str
    file: str = ""
    record: str = ""


@dataclass(frozen=True)
class Selection:
    """The samples that a selector adds to the reference split, and why.

    Attributes:
        uids: the chosen samples; no uid of the reference split among them.
        weights: (n_chosen,) training weight of each, 1 by default: finite, not negative, not all 0;
            the reference split weighs 1.
        score: (N,) utility of every sample of the pool (higher = keep); NaN where it has none.
        cluster: (N,) cluster inside the sample's task; -1 where the method has none.
        rank: (N,) place of the sample in its own cluster or task, 0 = first; -1 where it has none.
        reason: (N,) one short phrase a sample.
        budgets: samples given to each task.
        task_weights: share of the budget of each task.
        meta: anything else that the report should show.
    """

    uids: np.ndarray
    weights: np.ndarray
    score: np.ndarray
    cluster: np.ndarray
    rank: np.ndarray
    reason: np.ndarray
    budgets: dict[str, int]
    task_weights: dict[str, float] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
