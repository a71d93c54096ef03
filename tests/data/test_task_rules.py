from __future__ import annotations

import pytest

from presel_lightning.data.task_rules import TaskRule, first_match
from presel_lightning.errors import UserError

RULES = [
    TaskRule("ocr", image="^ocr/"),
    TaskRule("caption", image=r"\.jpg$", question="(?i)describe"),
    TaskRule("letters", question="letter"),
]


@pytest.mark.parametrize(
    ("image", "question", "task"),
    [
        ("ocr/1.jpg", "Describe the letter", "ocr"),
        ("coco/1.jpg", "describe the letter", "caption"),
        ("coco/1.png", "describe the letter", "letters"),
        ("coco/ocr/1.jpg", "", None),
    ],
)
def test_first_match_wins(image: str, question: str, task: str | None) -> None:
    assert first_match(RULES, image, question) == task


def test_order_decides() -> None:
    assert first_match(RULES[::-1], "ocr/1.jpg", "Describe the letter") == "letters"


def test_rule_without_pattern_takes_the_rest() -> None:
    assert first_match([*RULES, TaskRule("rest")], "x", "") == "rest"


@pytest.mark.parametrize(("n_turns", "task"), [(0, "short"), (1, "short"), (2, "long")])
def test_length_of_the_conversation_decides(n_turns: int, task: str) -> None:
    rules = [TaskRule("long", image="^coco/", min_turns=2), TaskRule("short")]
    assert first_match(rules, "coco/1.jpg", "What is it?", n_turns) == task


def test_bad_pattern_is_refused() -> None:
    with pytest.raises(UserError, match=r"task_rules.*\(oops"):
        TaskRule("x", image="(oops")
