"""The interface of an annotator."""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from presel_lightning.annotators.journal import Conversation, Journal
from presel_lightning.annotators.templates import prompt_for
from presel_lightning.data.pixels import Pixels
from presel_lightning.data.pool import Pool
from presel_lightning.errors import UserError
from presel_lightning.run.files import replacing


@dataclass(frozen=True, slots=True)
class Request:
    """One record whose instruction is missing: its image, or several.

    Attributes:
        image: path relative to the image root; of several images that of the first.
        path: file of that image.
        prompt: prompt for the annotator, by task.
        why: reason of the request.
        pixels: conversion of the image to RGB; see `rgb_of`.
        more: path and file of each image behind the first.
    """

    uid: str
    id: str
    image: str
    path: Path
    task: str
    prompt: str
    why: str
    pixels: Pixels = "as_shown"
    more: tuple[tuple[str, Path], ...] = ()

    @property
    def images(self) -> list[str]:
        """Paths of all images, in order, relative to the image root."""
        return [self.image, *(image for image, _ in self.more)]

    @property
    def paths(self) -> list[Path]:
        """Files of all images, in order."""
        return [self.path, *(path for _, path in self.more)]

    def record(self) -> dict[str, Any]:
        """Return the record of `requests.jsonl`; `images` where there are several."""
        names = ("uid", "image", "task", "why", "prompt")
        found = {name: str(getattr(self, name)) for name in names}
        return {**found, "images": self.images} if self.more else found


@dataclass(frozen=True, slots=True)
class AnswerProblem:
    """An answer that is missing or invalid, with the reason."""

    uid: str
    image: str
    problem: str
    detail: str


class AtMost(float):
    """A cost that is an upper bound; messages say so."""

    def __format__(self, form: str) -> str:
        """Format as `at most 3.20`."""
        return f"at most {float(self):{form}}"


@dataclass(frozen=True)
class Report:
    """Result of one start of an annotator, besides the answers.

    Attributes:
        problems: answers that are invalid.
        notes: lines for the console, such as why it stopped or what to do next.
        cost: cost of all starts so far, in the currency of the prices; None without prices, `AtMost`
            where the usage of a request is not known.
        mistake: error of the user that prevents any answer; empty where there is none.
    """

    problems: Sequence[AnswerProblem] = ()
    notes: Sequence[str] = ()
    cost: float | None = None
    mistake: str = ""


@dataclass(frozen=True)
class Answers(Report):
    """Instructions of the requested images.

    Attributes:
        conversations: by uid, in LLaVA form, those of earlier starts included.
        missing: uids without an instruction, in the order of the requests.
    """

    conversations: dict[str, Conversation] = field(default_factory=dict)
    missing: Sequence[str] = ()


class Names(Protocol):
    """Names of the samples of a pool, (N,) each; `Pool` implements it."""

    uid: np.ndarray
    id: np.ndarray
    image: np.ndarray
    task: np.ndarray

    def reveal(self, uid: str) -> Conversation | None:
        """Return the instruction in the annotation file of a hidden pool."""
        ...


class Annotator(ABC):
    """Base class: provide the instructions of selected images."""

    hides: ClassVar[bool] = False
    """Whether the instructions of the annotation file count as missing until it reveals them."""
    rereads: ClassVar[bool] = False
    """Whether answered requests are read again, as they cost nothing."""

    templates: Mapping[str, str] = {}
    """Prompts by task that replace the shipped ones; see `prompt_for`."""

    @property
    def cure(self) -> str:
        """What the user does about missing answers before the next start."""
        return "see the lines above for what to do"

    def examine(self) -> None:
        """Check that what it needs besides the requests is there, before a run's first stage.

        Raises:
            UserError: a package, a key or a server is missing.
        """

    def requests(
        self, pool: Pool, uids: Iterable[str], why: str | Mapping[str, str]
    ) -> list[Request]:
        """Build the requests of some samples, with this annotator's prompts."""
        return requests_for(pool, uids, why, self.templates)

    def annotate(self, requests: Sequence[Request], folder: Path, names: Names) -> Answers:
        """Obtain the missing instructions; every answer is synced to disk as it arrives.

        Args:
            requests: images without an instruction in the pool, answered before or not.
            folder: `OUT/annotations`, with `answers.jsonl` and `problems.csv`.
            names: the whole pool, to distinguish unknown names from names without a request.

        Returns:
            The answers so far, and the requests without one.

        Raises:
            UserError: the report has a mistake; earlier answers are kept.
        """
        with Journal(folder) as journal:
            asked = [r for r in requests if self.rereads or r.uid not in journal]
            report = self.write(asked, journal, names) if asked else Report()
            known = {r.uid: journal[r.uid] for r in requests if r.uid in journal}
        write_problems(folder / "problems.csv", report.problems)
        if report.mistake:
            raise UserError(report.mistake)
        return Answers(
            problems=report.problems,
            notes=report.notes,
            cost=report.cost,
            conversations=known,
            missing=[request.uid for request in requests if request.uid not in known],
        )

    @abstractmethod
    def write(self, requests: Sequence[Request], journal: Journal, names: Names) -> Report:
        """Add answers to the journal, one by one as they arrive.

        Args:
            requests: requests to answer; none is in the journal unless `rereads`.
            journal: `add` stores an answer durably; `folder` may hold other files.
            names: see `annotate`.

        Returns:
            Problems, notes and cost.
        """

    def estimate(self, requests: Sequence[Request], folder: Path) -> float | None:
        """Estimate the cost of these instructions before any request.

        None where it is unknown, `AtMost` where it is an upper bound.
        """
        return None


def requests_for(
    pool: Pool,
    uids: Iterable[str],
    why: str | Mapping[str, str],
    templates: Mapping[str, str] | None = None,
) -> list[Request]:
    """Build the requests of some samples, sorted by uid.

    Args:
        pool: every sample.
        uids: samples without an instruction.
        why: one reason for all, or by uid.
        templates: see `prompt_for`.
    """
    return [
        Request(
            uid=str(pool.uid[row]),
            id=str(pool.id[row]),
            image=str(pool.image[row]),
            path=pool.image_path(row),
            task=str(pool.task[row]),
            prompt=prompt_for(str(pool.task[row]), templates),
            why=why if isinstance(why, str) else why[str(pool.uid[row])],
            more=tuple(zip(pool.images(row), pool.image_paths(row), strict=True))[1:],
        )
        for row in np.sort(pool.rows(uids))
    ]


def write_problems(path: Path, problems: Sequence[AnswerProblem]) -> None:
    """Write `problems.csv`: uid, image, problem, detail; only the header where there is none."""
    with (
        replacing(path) as temporary,
        # a detail may hold characters that UTF-8 cannot encode
        temporary.open("w", encoding="utf-8", errors="replace", newline="") as handle,
    ):
        heading = [f.name for f in fields(AnswerProblem)]
        writer = csv.DictWriter(handle, heading, lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(problem) for problem in problems)
