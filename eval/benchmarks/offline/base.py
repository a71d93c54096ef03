"""Base class of the published benchmarks: validated files, and the prompts of LLaVA-1.5."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pyarrow as pa
import torch
from torchmetrics import MeanMetric

from presel_lightning.data.images import check_images
from presel_lightning.data.resolver import Resolver
from presel_lightning.errors import UserError
from presel_lightning.eval.benchmarks.annotation_file import NAMED
from presel_lightning.eval.benchmarks.base import BenchmarkTask, Item, Score
from presel_lightning.run.fingerprint import digest_file, digest_lines
from presel_lightning.run.ranges import Tokens

SHORT = "Answer the question using a single word or phrase."
LETTER = "Answer with the option's letter from the given choices directly."
LETTERS = "ABCDE"
"""Letters of the options of a multiple-choice question."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Question:
    """One question with its prompt, and what is needed to score its answer.

    Attributes:
        uid: unique in the benchmark.
        task: part of the benchmark that it belongs to.
        image: path relative to the image root.
        text: the whole prompt, with the suffix that requests a short answer.
        answers: expected answers; several where there are several annotators.
        group: questions with the same group are scored together.
        options: texts of a multiple-choice question, in the order of their letters.
    """

    uid: str
    task: str
    image: str
    text: str
    answers: tuple[str, ...]
    group: str = ""
    options: tuple[str, ...] = ()


class OfflineBenchmark(BenchmarkTask):
    """Base class of a published benchmark on disk; files are read on first access of the items.

    Args:
        questions: file or folder of the questions; see each benchmark.
        image_root: folder of the images, by default that of LLaVA's evaluation guide.
        name: name of the benchmark, by default that of its column in the paper.
        max_new_tokens: maximum tokens of an answer.
        follow_links: whether links below `image_root` may lead out of it, as `data.follow_links`.

    Source of folders and prompts: LLaVA, docs/Evaluation.md and scripts/v1_5/eval.
    """

    column: ClassVar[str]
    """Name in the paper's tables."""
    holds: ClassVar[str]
    """Description of `questions`, for messages."""
    images: ClassVar[str] = "."
    """Image root, relative to the folder of `questions`."""

    def __init__(
        self,
        questions: str,
        image_root: str | None = None,
        name: str | None = None,
        max_new_tokens: Tokens = 32,
        follow_links: bool = False,
    ) -> None:
        self.questions = Path(questions).expanduser()
        self.image_root = Path(image_root).expanduser() if image_root else None
        self.name = name or self.column
        self.max_new_tokens = max_new_tokens
        self.follow_links = follow_links
        self._asked: list[Question] | None = None
        self._items: list[Item] | None = None
        self._images: str | None = None

    @abstractmethod
    def read(self) -> list[Question]:
        """Read all questions, in the order of the files.

        Raises:
            UserError: a file is missing or has another layout.
        """

    @abstractmethod
    def judge(self, predictions: list[str], asked: list[Question]) -> Score:
        """Score one answer per question by the benchmark's own metric."""

    @abstractmethod
    def files(self) -> list[Path]:
        """Return the files that are read, without images."""

    def folder(self) -> Path:
        """Return the folder of the benchmark: `questions` itself or its parent."""
        return self.questions if self.questions.is_dir() else self.questions.parent

    def root(self) -> Path:
        """Return the folder of the images."""
        return self.image_root or self.folder() / self.images

    def fingerprint(self) -> dict[str, Any]:
        """Return file and image digests, and the settings that change items or answers."""
        if self._images is None:
            images = {item.image for item in self.items()}
            self._images = digest_lines(sorted(f"{i.name} {digest_file(i)}" for i in images))
        return {
            "benchmark": [type(self).__name__, 2, self.name],
            "files": [digest_file(file) for file in self.files()],
            "images": self._images,
            "settings": [*self.settings(), self.max_new_tokens],
        }

    def settings(self) -> list[Any]:
        """Return further settings of a benchmark that change items or answers, as JSON."""
        return []

    def items(self) -> list[Item]:
        """Return one item per question.

        Raises:
            UserError: a file is missing, has another layout, or refers to an image that cannot be
                used; a benchmark must be complete for its score to be comparable.
        """
        if self._items is None:
            asked = self._questions()
            root = self.root()
            if not root.is_dir():
                raise UserError(
                    f"benchmark {self.name}: {root}: no such folder; set `image_root` to that of "
                    "the images"
                )
            resolver = Resolver(root, self.follow_links)
            self._check(resolver, asked)
            self._items = [
                Item(q.uid, q.task, resolver(q.image), (), q.text, most_common(q.answers))
                for q in asked
            ]
        return self._items

    def score(self, predictions: list[str]) -> Score:
        """Score one answer per item, in the order of `items()`.

        Raises:
            ValueError: the number of predictions is not that of the items.
        """
        asked = self._questions()
        if len(predictions) != len(asked):
            raise ValueError(f"Expected {len(asked)} predictions but got {len(predictions)}")
        return self.judge(predictions, asked)

    def _questions(self) -> list[Question]:
        if self._asked is None:
            asked = self.read()
            if not asked:
                raise self.wrong(self.questions, "holds no question")
            repeated = [uid for uid, n in Counter(q.uid for q in asked).items() if n > 1]
            if repeated:
                raise self.wrong(self.questions, f"question {repeated[0]} occurs twice")
            self._asked = asked
        return self._asked

    def _check(self, resolver: Resolver, asked: list[Question]) -> None:
        images = sorted({q.image for q in asked})
        faulty = check_images(resolver, images)
        if faulty:
            named = "; ".join(f"{i}: {p}, {d}" for i, (p, d) in list(faulty.items())[:NAMED])
            more = f"; and {len(faulty) - NAMED} more" if len(faulty) > NAMED else ""
            raise UserError(
                f"benchmark {self.name}: {len(faulty)} of {len(images)} images below "
                f"{resolver.root} cannot be used, and a benchmark must be complete; set `image_root`, "
                f"or fix: {named}{more}"
            )

    # ------------------------------------------------------------------ shared by the readers

    def wrong(self, file: Path, what: str) -> UserError:
        """Build the error for an invalid file."""
        return UserError(
            f"benchmark {self.name}: {file}: {what}; `questions` should be {self.holds}"
        )

    def text(self, file: Path) -> str:
        """Read a text file."""
        try:
            return file.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            raise self.wrong(file, "no such file") from None
        except OSError as error:
            raise self.wrong(file, f"cannot be read ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise self.wrong(file, "not UTF-8 text") from error

    def json(self, file: Path, kind: type[T]) -> T:
        """Read a JSON file."""
        return self._parse(self.text(file), file, kind)

    def json_lines(self, file: Path) -> list[dict[str, Any]]:
        """Read the records of a JSON Lines file."""
        lines = enumerate(self.text(file).split("\n"), start=1)
        return [self._parse(line, f"{file}, line {n}", dict) for n, line in lines if line.strip()]

    def field(self, record: Any, key: str, kind: type[T], file: Path) -> T:  # noqa: ANN401
        """Return a record's field, checked for its type."""
        found = record.get(key) if isinstance(record, dict) else None
        if not isinstance(found, kind):
            what = f"a record without {kind.__name__} `{key}` ({record!r:.80})"
            raise self.wrong(file, what)
        return found

    def _parse(self, text: str, place: Path | str, kind: type[T]) -> T:
        try:
            content = json.loads(text)
        except ValueError:
            raise self.wrong(Path(place), "not JSON") from None
        if not isinstance(content, kind):
            raise self.wrong(Path(place), f"a {type(content).__name__}, not a {kind.__name__}")
        return content


def short(question: str) -> str:
    """Append LLaVA's request for a short answer to a question, unless it is there."""
    return question if question.endswith(SHORT) else f"{question}\n{SHORT}"


def most_common(answers: Sequence[str]) -> str:
    """Return the most frequent answer; the first of several."""
    return Counter(answers).most_common(1)[0][0]


def mean_credit(asked: Sequence[Question], credit: Iterable[float]) -> Score:
    """Compute the mean credit of the questions, in all and per task.

    Questions about one image are one resampling unit.
    """
    values = [float(value) for value in credit]
    return Score(
        percent(values),
        percent_by([question.task for question in asked], values),
        len(values),
        values,
        item_units=[question.image for question in asked],
        item_ids=[question.uid for question in asked],
    )


def percent(values: Iterable[float]) -> float:
    """Compute the mean of values in 0..1, in percent."""
    mean = MeanMetric(sync_on_compute=False).set_dtype(torch.float64)  # every process has them all
    mean.update(torch.tensor(list(values), dtype=torch.float64))
    return 100 * float(mean.compute())


def percent_by(tasks: Sequence[str], values: Sequence[float]) -> dict[str, float]:
    """Compute the mean of each task's values in percent, tasks in alphabetical order."""
    groups = pa.table({"task": tasks, "value": values}).group_by("task", use_threads=False)
    means = groups.aggregate([("value", "mean")]).sort_by("task").to_pylist()
    return {row["task"]: 100 * row["value_mean"] for row in means}
