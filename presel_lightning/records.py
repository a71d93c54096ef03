"""Frozen records that travel between the layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

__all__ = ["Sample", "Selection"]

OWN = "presel"
"""Key of a written record that holds our own fields."""


def own_fields(record: Mapping[str, Any]) -> dict[str, Any]:
    """Our own fields of a record that a run wrote; none where it holds none."""
    found = record.get(OWN)
    return found if isinstance(found, dict) else {}


def with_own(
    record: Mapping[str, Any], beside: Mapping[str, Any], others: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The record with our own fields under `presel`, in place of those of another run.

    Args:
        record: with fields of its own, which all stay as they are.
        beside: our fields that stand beside them too, where it has none of that name.
        others: our fields that do not.
    """
    new = {name: value for name, value in beside.items() if name not in record}
    return {**record, **new, OWN: {**beside, **(others or {})}}


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange of a conversation: what is asked and what is answered.

    Attributes:
        image_here: whether the image is shown with this question rather than the first.
        system: system prompt of the conversation, with its first turn; empty where the record
            brings none.
        images_at: of a record with several images, the offsets in `question` where images of it
            stand, in order; where no turn has any, all stand before the first question.
    """

    question: str
    answer: str
    image_here: bool = False
    system: str = ""
    images_at: tuple[int, ...] = ()


def image_place(turns: Sequence[Turn]) -> int:
    """Number of the turn that shows the image, from 0."""
    return next((number for number, turn in enumerate(turns) if turn.image_here), 0)


def image_first(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """The same turns with the image, or all of several, shown before the first question."""
    return tuple(replace(turn, image_here=False, images_at=()) for turn in turns)


def pieces_of(question: str, places: Sequence[int]) -> list[str]:
    """A question cut at the offsets of its images: one piece more than there are images."""
    return [question[a:b] for a, b in zip((0, *places), (*places, None), strict=True)]


def system_prompt(turns: Sequence[Turn]) -> str:
    """System prompt of a conversation; empty where it brings none."""
    return turns[0].system if turns else ""


@dataclass(frozen=True, slots=True)
class Sample:
    """One record of the pool: its image, or several, and once it is written, its instruction.

    Attributes:
        uid: 32 hex digits that stay the same when an instruction is added.
        image: path relative to the image root; of several images that of the first.
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
    def images(self) -> tuple[str, ...]:
        """Paths of all its images, in order."""
        named = self.record.get("image")
        return tuple(named) if isinstance(named, list) else (self.image,)

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
