"""POPE: does the model see objects that are not there? F1 of yes and no in three samplings."""

from __future__ import annotations

from pathlib import Path

import torch
from torchmetrics.functional.classification import (
    binary_accuracy,
    binary_f1_score,
    binary_precision,
    binary_recall,
)

from presel_lightning.eval.benchmarks.base import Score
from presel_lightning.eval.benchmarks.offline.base import OfflineBenchmark, Question, short

CATEGORIES = ("random", "popular", "adversarial")
NO = frozenset({"No", "no", "not"})


class POPE(OfflineBenchmark):
    r"""Polling-based object probing; the score is the mean F1 of the three categories, in percent.

    .. math:: F_1 = \frac{2 P R}{P + R}, \quad P = \frac{TP}{TP + FP}, \quad R = \frac{TP}{TP + FN}

    with "yes" as the positive class. The parts are F1, accuracy, precision, recall and share of
    "yes" of each category.

    Args:
        questions: folder with `coco_pope_random.json`, `coco_pope_popular.json` and
            `coco_pope_adversarial.json`: JSON lines of question_id, image, text and label.
        image_root: COCO val2014; by default `val2014` beside the folder.
        name: name of the benchmark.
        max_new_tokens: maximum tokens of an answer.

    Source: github.com/AoiDragon/POPE (output/coco, evaluate.py); LLaVA, llava/eval/eval_pope.py;
    haotian-liu/LLaVA issue 626, by which LLaVA-1.5's table has the mean F1.
    """

    column = "POPE"
    holds = (
        "the folder with coco_pope_random.json, coco_pope_popular.json and "
        "coco_pope_adversarial.json"
    )
    images = "../val2014"

    def files(self) -> list[Path]:
        """Return one file per category; other image sets have the same naming."""
        found = []
        for category in CATEGORIES:
            fitting = sorted(self.questions.glob(f"*_pope_{category}.json"))
            if len(fitting) != 1:
                what = f"{len(fitting)} files are called *_pope_{category}.json"
                raise self.wrong(self.questions, what)
            found += fitting
        return found

    def read(self) -> list[Question]:
        """Read the categories one after the other, each in the order of its file."""
        return [
            question
            for category, file in zip(CATEGORIES, self.files(), strict=True)
            for question in self._of_category(category, file)
        ]

    def _of_category(self, category: str, file: Path) -> list[Question]:
        found = []
        for record in self.json_lines(file):
            label = self.field(record, "label", str, file)
            if label not in ("yes", "no"):
                raise self.wrong(file, f"a label {label!r:.20} that is neither yes nor no")
            number = self.field(record, "question_id", int, file)
            image = self.field(record, "image", str, file)
            text = short(self.field(record, "text", str, file))
            found.append(Question(f"{category}-{number}", category, image, text, (label,)))
        return found

    def judge(self, predictions: list[str], asked: list[Question]) -> Score:
        """Compute F1, accuracy, precision, recall and yes-rate by category, and the mean F1."""
        parts: dict[str, float] = {}
        yes = [says_yes(prediction) for prediction in predictions]
        there = [question.answers == ("yes",) for question in asked]
        for category in CATEGORIES:
            rows = [i for i, question in enumerate(asked) if question.task == category]
            predicted = torch.tensor([yes[i] for i in rows], dtype=torch.long)
            true = torch.tensor([there[i] for i in rows], dtype=torch.long)
            found = {
                "F1": binary_f1_score(predicted, true),
                "accuracy": binary_accuracy(predicted, true),
                "precision": binary_precision(predicted, true),
                "recall": binary_recall(predicted, true),
                "yes": predicted.float().mean(),
            }
            parts |= {f"{category} {what}": 100 * float(value) for what, value in found.items()}
        score = sum(parts[f"{category} F1"] for category in CATEGORIES) / len(CATEGORIES)
        return Score(
            score,
            parts,
            len(asked),
            # F1 = 2 TP / (2 TP + FP + FN), a weighted mean
            items=[float(y and t) for y, t in zip(yes, there, strict=True)],
            item_tasks=[question.task for question in asked],
            item_weights=[float(y) + float(t) for y, t in zip(yes, there, strict=True)],
            # the categories share their images, and the questions whose answer is yes
            item_units=[question.image for question in asked],
            item_ids=[question.uid for question in asked],
            right=[float(y == t) for y, t in zip(yes, there, strict=True)],
        )


def says_yes(answer: str) -> bool:
    """Classify an answer as POPE does: "no" where its first sentence has a No, no or not."""
    words = answer.split(".")[0].replace(",", "").split(" ")
    return NO.isdisjoint(words)
