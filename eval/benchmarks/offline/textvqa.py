"""TextVQA: short answers by text in the image, soft accuracy against ten annotators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from presel_lightning.eval.benchmarks.base import Score
from presel_lightning.eval.benchmarks.offline.base import (
    SHORT,
    OfflineBenchmark,
    Question,
    mean_credit,
    short,
)
from presel_lightning.eval.benchmarks.offline.vqa_answer import soft_accuracy
from presel_lightning.run.ranges import Tokens

PEOPLE = 10
OCR = "llava_textvqa_val_v051_ocr.jsonl"
HINT = "Reference OCR token:"


class TextVQA(OfflineBenchmark):
    """TextVQA's validation split; the score is the mean soft accuracy in percent.

    Args:
        questions: `TextVQA_0.5.1_val.json`, with question_id, image_id, question and ten answers
            per record under `data`.
        image_root: folder of `<image_id>.jpg`, by default `train_images` beside the file.
        name: name of the benchmark.
        max_new_tokens: maximum tokens of an answer.
        ocr: LLaVA's prompts with OCR tokens; relative to the folder of `questions`. The scores of
            LLaVA-1.5 and the paper use them. Null uses prompts without OCR tokens, as lmms-eval
            does by default; scores are then lower, and not comparable with the tables.

    Source: textvqa.org/dataset; LLaVA, llava/eval/eval_textvqa.py and scripts/v1_5/eval/textvqa.sh;
    the metric in `vqa_answer`.
    """

    column = "TextVQA"
    holds = f"TextVQA_0.5.1_val.json, with {OCR} beside it (`ocr: null` asks without)"
    images = "train_images"

    def __init__(
        self,
        questions: str,
        image_root: str | None = None,
        name: str | None = None,
        max_new_tokens: Tokens = 32,
        ocr: str | None = OCR,
        follow_links: bool = False,
    ) -> None:
        super().__init__(questions, image_root, name, max_new_tokens, follow_links)
        self.ocr = ocr

    def files(self) -> list[Path]:
        """Return the files of annotations, and of prompts where they are used."""
        prompts = [self.folder() / Path(self.ocr).expanduser()] if self.ocr else []
        return [self.questions, *prompts]

    def settings(self) -> list[Any]:
        """Return whether prompts have OCR tokens."""
        return [self.ocr is not None]

    def read(self) -> list[Question]:
        """Read all questions in the order of the annotations.

        Raises:
            UserError: a file is invalid, or an annotated question has no prompt.
        """
        data = self.field(self.json(self.questions, dict), "data", list, self.questions)
        prompts = self._prompts() if self.ocr else None
        return [self._question(record, prompts) for record in data]

    def _prompts(self) -> dict[tuple[str, str], str]:
        """Read {(image, question in lower case): prompt}; question_id holds the image's id."""
        file = self.files()[1]
        found = {}
        for record in self.json_lines(file):
            text = self.field(record, "text", str, file)
            lines = [line for line in text.split("\n") if not line.startswith((HINT, SHORT))]
            image = self.field(record, "question_id", str, file)
            found[image, "\n".join(lines).strip().lower()] = text
        return found

    def _question(self, record: Any, prompts: dict[tuple[str, str], str] | None) -> Question:  # noqa: ANN401
        file = self.questions
        number = self.field(record, "question_id", int, file)
        image = self.field(record, "image_id", str, file)
        text = self.field(record, "question", str, file)
        answers = self.field(record, "answers", list, file)
        if len(answers) != PEOPLE or not all(isinstance(answer, str) for answer in answers):
            raise self.wrong(file, f"question {number} has not {PEOPLE} answers")
        if prompts is not None:
            key = image, text.strip().lower()
            if key not in prompts:
                raise self.wrong(self.files()[1], f"no prompt for question {number} of {image}")
            text = prompts[key]
        return Question(str(number), self.name, f"{image}.jpg", short(text), tuple(answers))

    def judge(self, predictions: list[str], asked: list[Question]) -> Score:
        """Compute the mean soft accuracy; the benchmark has no parts."""
        return mean_credit(
            asked,
            (
                soft_accuracy(prediction, question.answers)
                for prediction, question in zip(predictions, asked, strict=True)
            ),
        )
