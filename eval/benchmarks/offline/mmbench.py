"""MMBench: multiple choice, correct only if correct in every rotation of the options."""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from presel_lightning.eval.benchmarks.base import Score
from presel_lightning.eval.benchmarks.offline.base import (
    LETTER,
    LETTERS,
    OfflineBenchmark,
    Question,
    mean_credit,
)
from presel_lightning.run.files import replacing, scratch, user_cache
from presel_lightning.run.ranges import Tokens

SHIFT = 1_000_000
"""Rows with the same index modulo this are rotations of one question."""
NEEDED = ("index", "question", "A", "B", "answer", "category", "image")
NOTHING = ("", "nan", "none")
LARGEST_CELL = 1 << 30
REQUESTS = {"en": LETTER, "cn": "请直接回答选项字母。"}

Row = dict[str, str]


class MMBench(OfflineBenchmark):
    """MMBench's dev split, which has answers; the score is CircularEval's accuracy in percent.

    A question counts as correct if all of its rotations are answered correctly. The published file
    has one row per rotation, with the index increased by a million; a question with a single row is
    rotated here. The parts are the `l2-category`s, or the categories.

    An answer names an option by its letter, or by the text of exactly one option; otherwise it is
    wrong. The benchmark's server uses a language model for these answers, so a model that does not
    answer with letters scores higher there.

    Args:
        questions: `mmbench_dev_20230712.tsv` or `mmbench_dev_cn_20231003.tsv`: tab-separated, with
            index, question, hint, A to D, answer, category and a base64 image (or the index of the
            row that has it). Images are decoded into the cache.
        language: language of LLaVA's request for a letter.
        name: name of the benchmark, by default that of the language's column.
        max_new_tokens: maximum tokens of an answer.

    Source: arXiv 2307.06281, sections 4.1 and 4.2; opencompass, docs/en/MMBench.md; LLaVA,
    llava/eval/model_vqa_mmbench.py and eval_mmbench.py.
    """

    column = "MMB-en"
    holds = "MMBench's dev split as TSV, mmbench_dev_20230712.tsv or mmbench_dev_cn_20231003.tsv"

    def __init__(
        self,
        questions: str,
        language: Literal["en", "cn"] = "en",
        name: str | None = None,
        max_new_tokens: Tokens = 32,
    ) -> None:
        super().__init__(questions, None, name or f"MMB-{language}", max_new_tokens)
        self.language = language

    def files(self) -> list[Path]:
        """Return the one file."""
        return [self.questions]

    def settings(self) -> list[Any]:
        """Return the language of the request."""
        return [self.language]

    def root(self) -> Path:
        """Return the image folder in the user's cache, or in the scratch folder of `check`."""
        return (scratch() or user_cache()) / "mmbench"

    def read(self) -> list[Question]:
        """Read all rotations of all questions, in the order of the file."""
        rows = self._rows()
        groups: dict[int, list[Row]] = {}
        for index, row in rows.items():
            groups.setdefault(index % SHIFT, []).append(row)
        images = {index: row["image"] for index, row in rows.items()}
        return [
            question
            for index, group in groups.items()
            for question in self._of_group(index, group, images)
        ]

    def _rows(self) -> dict[int, Row]:
        """Read the rows by index."""
        lines = io.StringIO(self.text(self.questions), newline="")
        limit = csv.field_size_limit(LARGEST_CELL)
        try:
            reader = csv.DictReader(lines, delimiter="\t", restval="")
            missing = set(NEEDED) - set(reader.fieldnames or ())
            if missing:
                raise self.wrong(self.questions, f"no column {', '.join(sorted(missing))}")
            rows = list(reader)
        except csv.Error as error:
            raise self.wrong(self.questions, f"not tab-separated ({error})") from error
        finally:
            csv.field_size_limit(limit)
        found = {}
        for row in rows:
            if not row["index"].isdigit() or int(row["index"]) in found:
                raise self.wrong(
                    self.questions, f"an index {row['index']!r:.20}, missing or repeated"
                )
            found[int(row["index"])] = row
        return found

    def _of_group(self, index: int, group: list[Row], images: dict[int, str]) -> list[Question]:
        task = group[0].get("l2-category") or group[0]["category"]
        found = []
        for row in group:
            options = options_of(row)
            if row["answer"] not in tuple(LETTERS[: len(options)]):
                what = f"row {row['index']} has no answer among its options; test splits have none"
                raise self.wrong(self.questions, what)
            image = self._put(row["image"], images, index)
            turns = rotations(options, row["answer"]) if len(group) == 1 else [
                (options, row["answer"])
            ]  # fmt: skip
            for turned, answer in turns:
                text = self._prompt(row, turned)
                uid = f"{row['index']}-{answer}"
                found.append(Question(uid, task, image, text, (answer,), str(index), turned))
        return found

    def _prompt(self, row: Row, options: Sequence[str]) -> str:
        hint = [] if is_nothing(row.get("hint", "")) else [row["hint"]]
        lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False)]
        return "\n".join([*hint, row["question"], *lines, REQUESTS[self.language]])

    def _put(self, cell: str, images: dict[int, str], index: int) -> str:
        """Write an image into the cache under its content hash; return that name."""
        encoded = images.get(int(cell), "") if cell.isdigit() else cell
        try:
            content = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raise self.wrong(self.questions, f"question {index} has no base64 image") from None
        name = hashlib.blake2b(content, digest_size=16).hexdigest()
        path = self.root() / name
        if not path.is_file() or path.stat().st_size != len(content):
            with replacing(path) as temporary:
                temporary.write_bytes(content)
        return name

    def judge(self, predictions: list[str], asked: list[Question]) -> Score:
        """Compute the share of questions correct in every rotation; `n` counts questions."""
        hits = [
            option_of(prediction, question.options) == question.answers[0]
            for question, prediction in zip(asked, predictions, strict=True)
        ]
        right: dict[str, bool] = {}
        for question, hit in zip(asked, hits, strict=True):
            right[question.group] = hit and right.get(question.group, True)
        whole = {question.group: replace(question, uid=question.group) for question in asked}
        score = mean_credit(list(whole.values()), right.values())
        return replace(score, right=[float(hit) for hit in hits])


def is_nothing(cell: str) -> bool:
    """Return whether a cell is empty."""
    return cell.strip().lower() in NOTHING


def options_of(row: Row) -> tuple[str, ...]:
    """Return the texts of the options, up to the first empty one."""
    found: list[str] = []
    for letter in LETTERS:
        if is_nothing(row.get(letter, "")):
            break
        found.append(row[letter])
    return tuple(found)


def rotations(options: tuple[str, ...], answer: str) -> list[tuple[tuple[str, ...], str]]:
    """Return every rotation of the options, with the letter of the correct one."""
    right = LETTERS.index(answer)
    return [
        (options[by:] + options[:by], LETTERS[(right - by) % len(options)])
        for by in range(len(options))
    ]


def option_of(answer: str, options: Sequence[str]) -> str | None:
    """Return the letter of the option that an answer names; None where it names none or several.

    First by a separate letter, in brackets or before punctuation (an "A" in more than three words
    is an article); then by the text of exactly one option.
    """
    letters = LETTERS[: len(options)]
    if answer.strip().strip(".").strip().upper() in tuple(letters):
        return answer.strip().strip(".").strip().upper()
    words = answer.split()
    matches = (re.fullmatch(rf"[(:]?([{letters}])[).,:]*", word) for word in words)
    alone = {found[1] for found in matches if found}
    if "A" in words and len(words) > 3:
        alone.discard("A")
    if len(alone) == 1:
        return alone.pop()
    named = [
        letter
        for letter, option in zip(letters, options, strict=True)
        if option.lower() in answer.lower()
    ]
    return named[0] if len(named) == 1 else None
