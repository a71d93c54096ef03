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
def test_first_match_returns_the_first_matching_rule(
    image: str, question: str, task: str | None
) -> None:
    assert first_match(RULES, image, question) == task


def test_first_match_depends_on_rule_order() -> None:
    assert first_match(RULES[::-1], "ocr/1.jpg", "Describe the letter") == "letters"


def test_first_match_rule_without_pattern_matches_all() -> None:
    assert first_match([*RULES, TaskRule("rest")], "x", "") == "rest"


@pytest.mark.parametrize(("n_turns", "task"), [(0, "short"), (1, "short"), (2, "long")])
def test_first_match_min_turns_selects_by_conversation_length(n_turns: int, task: str) -> None:
    rules = [TaskRule("long", image="^coco/", min_turns=2), TaskRule("short")]
    assert first_match(rules, "coco/1.jpg", "What is it?", n_turns) == task


def test_task_rule_invalid_pattern_raises_user_error() -> None:
    with pytest.raises(UserError, match=r"task_rules.*\(oops"):
        TaskRule("x", image="(oops")
