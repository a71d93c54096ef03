"""MME: fourteen subtasks of yes-or-no questions, two per image."""

from __future__ import annotations

from pathlib import Path

from presel_lightning.eval.benchmarks.base import Score
from presel_lightning.eval.benchmarks.offline.base import (
    OfflineBenchmark,
    Question,
    percent_by,
    short,
)

PERCEPTION = (
    "existence",
    "count",
    "position",
    "color",
    "posters",
    "celebrity",
    "scene",
    "landmark",
    "artwork",
    "OCR",
)
COGNITION = (
    "commonsense_reasoning",
    "numerical_calculation",
    "text_translation",
    "code_reasoning",
)
REQUEST = "Please answer yes or no."
PER_IMAGE = 2
MOST = 200.0
"""Maximum points of a subtask."""


class MME(OfflineBenchmark):
    r"""Perception and cognition in points; the score is perception (0 to 2000), as in the tables.

    .. math::
        s_t = 100\,\text{acc}_t + 100\,\text{acc}^+_t, \qquad \text{perception} = \sum_{t} s_t

    with :math:`\text{acc}_t` the share of correct answers of a subtask and
    :math:`\text{acc}^+_t` the share of its images with both answers correct. A subtask has up to
    200 points; the ten of perception and the four of cognition are summed separately.

    Args:
        questions: folder `MME_Benchmark_release_version` with one folder per subtask: images and
            `<image>.txt` side by side, or in `images` and `questions_answers_YN`. A text file has
            two lines, question and answer separated by a tab.
        image_root: the same folder by default.
        name: name of the benchmark.
        max_new_tokens: maximum tokens of an answer.

    LLaVA's request for a short answer replaces the questions' own "Please answer yes or no."

    Source: github.com/BradyFU/Awesome-Multimodal-Large-Language-Models, branch Evaluation
    (eval_tool/calculation.py); arXiv 2306.13394, section 2.3; prompts as in LLaVA's llava_mme.jsonl.
    """

    column = "MME"
    holds = "the folder MME_Benchmark_release_version, with a folder for each of its 14 subtasks"

    def files(self) -> list[Path]:
        """Return all text files, subtask by subtask."""
        return [file for subtask in (*PERCEPTION, *COGNITION) for file in self._texts(subtask)]

    def read(self) -> list[Question]:
        """Read two questions per text file, in alphabetical order within a subtask."""
        return [
            question
            for subtask in (*PERCEPTION, *COGNITION)
            for question in self._of_subtask(subtask)
        ]

    def _texts(self, subtask: str) -> list[Path]:
        folder = self.questions / subtask
        apart = folder / "questions_answers_YN"
        found = sorted((apart if apart.is_dir() else folder).glob("*.txt"))
        if not found:
            raise self.wrong(folder, "no text file with questions")
        return found

    def _of_subtask(self, subtask: str) -> list[Question]:
        folder = self.root() / subtask
        apart = folder / "images"
        place = apart if apart.is_dir() else folder
        images = {path.stem: path for path in sorted(place.glob("*.*")) if path.suffix != ".txt"}
        found = []
        for file in self._texts(subtask):
            if file.stem not in images:
                raise self.wrong(file, f"no image of that name in {place}")
            image = images[file.stem].relative_to(self.root()).as_posix()
            found += self._of_file(subtask, file, image)
        return found

    def _of_file(self, subtask: str, file: Path, image: str) -> list[Question]:
        lines = [line.split("\t") for line in self.text(file).split("\n") if line.strip()]
        if len(lines) != PER_IMAGE or any(len(parts) != 2 for parts in lines):
            raise self.wrong(file, "not two lines of question, tab, answer")
        found = []
        for number, (question, answer) in enumerate(lines):
            label = answer.strip().lower()
            if label not in ("yes", "no"):
                raise self.wrong(file, f"an answer {answer!r:.20} that is neither yes nor no")
            group = f"{subtask}/{file.stem}"
            text = short(question.replace(REQUEST, "").strip())
            found.append(Question(f"{group}/{number}", subtask, image, text, (label,), group))
        return found

    def judge(self, predictions: list[str], asked: list[Question]) -> Score:
        """Compute the points of every subtask, of perception and of cognition; items are images."""
        right = [
            yes_or_no(prediction) == question.answers[0]
            for prediction, question in zip(predictions, asked, strict=True)
        ]
        images = asked[::PER_IMAGE]
        pairs = zip(right[::PER_IMAGE], right[1::PER_IMAGE], strict=True)
        # half of an image's credit is for each answer, half for both
        credit = [(sum(pair) / PER_IMAGE + all(pair)) / 2 for pair in pairs]
        means = percent_by([image.task for image in images], credit)
        points = {subtask: 2 * means[subtask] for subtask in (*PERCEPTION, *COGNITION)}
        perception, cognition = (
            sum(points[subtask] for subtask in group) for group in (PERCEPTION, COGNITION)
        )
        kept = [
            (value, image)
            for value, image in zip(credit, images, strict=True)
            if image.task in PERCEPTION
        ]
        return Score(
            perception,
            {"perception": perception, "cognition": cognition, **points},
            len(asked),
            items=[value for value, _ in kept],
            item_tasks=[image.task for _, image in kept],
            item_ids=[image.group for _, image in kept],
            scale=MOST * len(PERCEPTION),
            right=[float(each) for each in right],
        )


def yes_or_no(answer: str) -> str:
    """Classify an answer as MME does, by its first four letters; `other` is always wrong."""
    start = answer.lower()[:4]
    return next((word for word in ("yes", "no") if word in start), "other")
