"""ScienceQA, the questions with an image: multiple choice, accuracy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from presel_lightning.data.conversation import without_image_token
from presel_lightning.eval.benchmarks.base import Score
from presel_lightning.eval.benchmarks.offline.base import (
    LETTER,
    LETTERS,
    OfflineBenchmark,
    Question,
    mean_credit,
)

PROBLEMS, SPLITS = "problems.json", "pid_splits.json"


class ScienceQA(OfflineBenchmark):
    """The image questions of ScienceQA's test split; the score is their accuracy in percent.

    Args:
        questions: `llava_test_CQM-A.json`, LLaVA's prompts, in one folder with ScienceQA's
            `problems.json`, which holds the answers, and `pid_splits.json`.
        image_root: `images/test` in that folder by default.
        name: name of the benchmark.
        max_new_tokens: maximum tokens of an answer.

    Questions without an image are skipped. An answer is a letter, begins with "B. ", or contains
    "The answer is B"; anything else is wrong. The parts are the subjects.

    Source: github.com/lupantech/ScienceQA (data/scienceqa); LLaVA, llava/eval/model_vqa_science.py,
    eval_science_qa.py (IMG-Accuracy) and scripts/v1_5/eval/sqa.sh.
    """

    column = "SQA-I"
    holds = f"LLaVA's llava_test_CQM-A.json, with ScienceQA's {PROBLEMS} and {SPLITS} beside it"
    images = "images/test"

    def files(self) -> list[Path]:
        """Return the files of prompts, answers and splits."""
        return [self.questions, self.folder() / PROBLEMS, self.folder() / SPLITS]

    def read(self) -> list[Question]:
        """Read the image questions of the test split, in the order of the split.

        Raises:
            UserError: a file is invalid, or a question of the split has no prompt.
        """
        prompts_file, problems_file, splits_file = self.files()
        prompts = {
            self.field(record, "id", str, prompts_file): record
            for record in self.json(prompts_file, list)
        }
        problems = self.json(problems_file, dict)
        test = self.field(self.json(splits_file, dict), "test", list, splits_file)
        return [
            self._question(str(pid), prompts, problem)
            for pid in test
            if (problem := self.field(problems, str(pid), dict, problems_file)).get("image")
        ]

    def _question(
        self, pid: str, prompts: dict[str, dict[str, Any]], problem: dict[str, Any]
    ) -> Question:
        prompts_file, problems_file, _ = self.files()
        record = self.field(prompts, pid, dict, prompts_file)
        turns = self.field(record, "conversations", list, prompts_file)
        text = without_image_token(
            self.field(turns[0] if turns else None, "value", str, prompts_file)
        )
        number = self.field(problem, "answer", int, problems_file)
        options = self.field(problem, "choices", list, problems_file)
        if not 0 <= number < min(len(options), len(LETTERS)):
            raise self.wrong(problems_file, f"problem {pid} has no choice {number}")
        return Question(
            uid=pid,
            task=self.field(problem, "subject", str, problems_file),
            image=self.field(record, "image", str, prompts_file),
            text=text if text.endswith(LETTER) else f"{text}\n{LETTER}",
            answers=(LETTERS[number],),
        )

    def judge(self, predictions: list[str], asked: list[Question]) -> Score:
        """Compute the accuracy, in all and per subject."""
        return mean_credit(
            asked,
            (
                letter_of(prediction) == question.answers[0]
                for prediction, question in zip(predictions, asked, strict=True)
            ),
        )


def letter_of(answer: str) -> str | None:
    """Return the option that an answer names, by LLaVA's rules; None where it names none."""
    text = answer.replace("\n", ". ")
    if len(text.strip()) == 1 and text.strip() in LETTERS:
        return text.strip()
    found = re.match(r"([A-E])\. ", text) or re.search(r"The answer is ([A-E])", text)
    return found[1] if found else None
