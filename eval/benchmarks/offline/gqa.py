"""GQA: short answers about scene graphs, exact match."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from presel_lightning.eval.benchmarks.base import Score
from presel_lightning.eval.benchmarks.offline.base import (
    OfflineBenchmark,
    Question,
    mean_credit,
    short,
)


class GQA(OfflineBenchmark):
    """GQA's balanced test-dev split; the score is the accuracy over its questions, in percent.

    Args:
        questions: `testdev_balanced_questions.json`: an object of questions by id, each with
            `imageId`, `question`, `answer` and `types`.
        image_root: folder of `<imageId>.jpg`, by default `images` beside the file.
        name: name of the benchmark.
        max_new_tokens: maximum tokens of an answer.

    An answer is correct if it equals the expected one in lower case and without final periods.
    The parts are the structural types (query, verify, choose, compare, logical).

    Source: cs.stanford.edu/people/dorarad/gqa/evaluate.html ("standard accuracy"); LLaVA,
    scripts/convert_gqa_for_eval.py.
    """

    column = "GQA"
    holds = "testdev_balanced_questions.json, an object of questions by id"
    images = "images"

    def files(self) -> list[Path]:
        """Return the one file."""
        return [self.questions]

    def read(self) -> list[Question]:
        """Read all questions in the order of the file."""
        return [
            self._question(uid, record) for uid, record in self.json(self.questions, dict).items()
        ]

    def _question(self, uid: str, record: Any) -> Question:  # noqa: ANN401 - checked here
        file = self.questions
        types = self.field(record, "types", dict, file)
        return Question(
            uid=uid,
            task=self.field(types, "structural", str, file),
            image=f"{self.field(record, 'imageId', str, file)}.jpg",
            text=short(self.field(record, "question", str, file)),
            answers=(self.field(record, "answer", str, file),),
        )

    def judge(self, predictions: list[str], asked: list[Question]) -> Score:
        """Compute the accuracy, in all and per structural type."""
        return mean_credit(
            asked,
            (
                prediction.strip().rstrip(".").lower() == question.answers[0]
                for prediction, question in zip(predictions, asked, strict=True)
            ),
        )
