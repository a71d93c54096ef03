"""The interface of an annotator."""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np

from presel_lightning.annotators.journal import Conversation, Journal
from presel_lightning.annotators.templates import prompt_for
from presel_lightning.data.pixels import Pixels
from presel_lightning.data.pool import Pool
from presel_lightning.errors import UserError
from presel_lightning.run.files import replacing


@dataclass(frozen=True, slots=True)
class Request:
    """One image whose instruction somebody has to write.

    Attributes:
        image: path relative to the image root.
        path: file of the image.
        prompt: what its annotator is told to write, by task.
        why: what it was chosen for.
        pixels: how the image is read; see `rgb_of`.
    """

    uid: str
    id: str
    image: str
    path: Path
    task: str
    prompt: str
    why: str
    pixels: Pixels = "as_shown"

    def record(self) -> dict[str, str]:
        """What `requests.jsonl` has of it."""
        names = ("uid", "image", "task", "why", "prompt")
        return {name: str(getattr(self, name)) for name in names}


@dataclass(frozen=True, slots=True)
class AnswerProblem:
    """An answer that was not used, or could not be had, and why."""

    uid: str
    image: str
    problem: str
    detail: str


@dataclass(frozen=True)
class Report:
    """What one start of an annotator has to tell beside the answers.

    Attributes:
        problems: answers that could not be used.
        notes: lines for the screen, such as why it stopped or what to do next.
        cost: of all starts so far, in the currency of the prices; None where it has no price.
        mistake: of the user, to be put right before anything can be had; empty where there is none.
    """

    problems: Sequence[AnswerProblem] = ()
    notes: Sequence[str] = ()
    cost: float | None = None
    mistake: str = ""


@dataclass(frozen=True)
class Answers(Report):
    """What is known of the requested images.

    Attributes:
        conversations: by uid, in LLaVA form; those of earlier starts are among them.
        missing: uids that still have none, in the order of the requests.
    """

    conversations: dict[str, Conversation] = field(default_factory=dict)
    missing: Sequence[str] = ()


class Names(Protocol):
    """What samples of the pool are called, (N,) each; a `Pool` is one."""

    uid: np.ndarray
    id: np.ndarray
    image: np.ndarray
    task: np.ndarray

    def reveal(self, uid: str) -> Conversation | None:
        """The instruction that lies in the annotation file of a hidden pool."""
        ...


class Annotator(ABC):
    """Write the instructions of chosen images."""

    hides: ClassVar[bool] = False
    """Whether the instructions of the annotation file count as unwritten until it reveals them."""
    rereads: ClassVar[bool] = False
    """Whether answers that are there already are looked for again, as they cost nothing."""

    templates: Mapping[str, str] = {}
    """Prompts by task that replace the usual ones; see `prompt_for`."""

    @property
    def cure(self) -> str:
        """What a person does about answers that are missing, before the next start."""
        return "see in the lines above what is to be done"

    def requests(
        self, pool: Pool, uids: Iterable[str], why: str | Mapping[str, str]
    ) -> list[Request]:
        """Ask for the instructions of some samples, with this annotator's prompts."""
        return requests_for(pool, uids, why, self.templates)

    def annotate(self, requests: Sequence[Request], folder: Path, names: Names) -> Answers:
        """Have the missing instructions written; an answer is on disk before the next is asked for.

        Args:
            requests: images that the pool has no instruction for, answered before or not.
            folder: `OUT/annotations`, where `answers.jsonl` and `problems.csv` lie.
            names: the whole pool, to tell an unknown name from one that nobody asked for.

        Raises:
            UserError: what was reported as a mistake; what came in before is kept.
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
        """Put answers into the journal, one by one as they come in.

        Args:
            requests: what to write; none is in the journal unless `rereads`.
            journal: `add` keeps an answer for good; its `folder` is there for other files.
            names: see `annotate`.
        """

    def estimate(self, requests: Sequence[Request], folder: Path) -> float | None:
        """What these instructions would cost, before any is asked for; None where it is unknown."""
        return None


def requests_for(
    pool: Pool,
    uids: Iterable[str],
    why: str | Mapping[str, str],
    templates: Mapping[str, str] | None = None,
) -> list[Request]:
    """Ask for the instructions of some samples, sorted by uid.

    Args:
        pool: every sample.
        uids: the chosen ones.
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
        )
        for row in np.sort(pool.rows(uids))
    ]


def write_problems(path: Path, problems: Sequence[AnswerProblem]) -> None:
    """Write `problems.csv`: uid, image, problem, detail; only the heading where there is none."""
    with (
        replacing(path) as temporary,
        # a problem may be that something is no text
        temporary.open("w", encoding="utf-8", errors="replace", newline="") as handle,
    ):
        heading = [f.name for f in fields(AnswerProblem)]
        writer = csv.DictWriter(handle, heading, lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(problem) for problem in problems)
